//! The documented exchanges about endpoints: creating an interface endpoint (A.13), accepting and rejecting (A.10).
//!
//! The samples say what is asked and what is answered; what the request meets is made to fit each sample's note.

use adit_model::{
    ApiError, Code,
    endpoint::{
        ConnectionAction, Decision, Endpoint, EndpointDraft, EndpointPlace, EndpointStatus, SPECIFICATION,
    },
    id::{DomainId, EndpointId, MarkerId, NeutronSubnetId, VpcId},
    network::{SubnetRange, SubnetView},
    quota::Usage,
    service::{Service, ServiceStatus},
    time::Created,
};
use serde_json::{Value, json};

use crate::{
    sample::{at, domain, endpoint_place, service, uuid, vpc_view},
    service_exchanges::{Exchange, exchanges},
};

/// The samples about gateway services; `endpoint_gateway` has them.
pub(crate) const GATEWAY: [&str; 4] = [
    "gateway, default route table and policy",
    "gateway, own policy",
    "route table taken",
    "11 policy statements",
];

/// The document under the names of spec 0.7, as the reply to a create shows it.
fn shown(e: &Endpoint) -> Value {
    let leg = e.interface().unwrap();
    json!({
        "id": e.id, "status": e.status(), "service_type": e.service_type(), "active_status": ["active"],
        "enable_status": "enable", "endpoint_service_id": e.service, "endpoint_service_name": e.service_name,
        "marker_id": e.marker, "vpc_id": e.vpc, "subnet_id": leg.subnet, "project_id": e.project,
        "enable_dns": leg.enable_dns, "whitelist": leg.whitelist, "enable_whitelist": leg.enable_whitelist,
        "specification_name": SPECIFICATION, "endpoint_pool_id": e.pool, "tags": e.tags,
        "description": e.description, "created_at": e.created.at, "updated_at": e.updated_at,
    })
}

/// The service that the samples connect to.
fn sample_service(exchange: &Exchange) -> Service {
    let status = match exchange.note.as_str() {
        "service not available" => ServiceStatus::Creating,
        _ => ServiceStatus::Available,
    };
    let mut service = service(status);
    service.id = "2cf745d6-b57a-5b26-823d-dd9761a6cda4".parse().unwrap();
    service.name = format!("eu-de.orders-api.{}", service.id).into();
    service.pool = "de321837-8360-5c8c-a190-05268a5448e7".parse().unwrap();
    service.approval_enabled = exchange.note != "interface, no approval";
    service
}

fn create(exchange: &Exchange) -> Result<Endpoint, ApiError> {
    let note = exchange.note.as_str();
    let service = sample_service(exchange);
    let caller: DomainId = "another-account".parse().unwrap();
    let draft = EndpointDraft::parse(exchange.body.clone())?;
    draft.check_service(
        (draft.service == service.id).then_some(&service),
        &caller,
        note != "not whitelisted",
    )?;
    let vpc = vpc_view(draft.vpc, &["10.20.0.0/16"], &[]);
    draft.check_vpc(Some(&vpc))?;
    let subnet_id = draft.subnet()?;
    let subnet = SubnetView {
        id: subnet_id,
        vpc: Some(match note {
            "subnet of another VPC" => VpcId(uuid(99)),
            _ => vpc.id,
        }),
        range: Some(SubnetRange {
            id: NeutronSubnetId(uuid(98)),
            name: String::new(),
            cidr: "10.20.0.0/16".parse().unwrap(),
            gateway: [10, 20, 0, 1].into(),
            dhcp: true,
            dns: Vec::new(),
        }),
    };
    let quota = Usage {
        used: if note == "51st endpoint" { 50 } else { 49 },
        quota: 50,
    };
    let found = (note != "subnet unknown").then_some(&subnet);
    let request = draft.finish(&vpc, subnet_id, found, |_| note != "address in use", quota)?;
    let reply = &exchange.reply;
    let place = EndpointPlace {
        id: reply["id"]
            .as_str()
            .map_or(EndpointId(uuid(7)), |id| id.parse().unwrap()),
        project: "dc7c61a0e3a35523a0b15c59481405d3".parse().unwrap(),
        marker: MarkerId::new(201_515_901).unwrap(),
        created: Created {
            order: 1,
            at: reply["created_at"].as_str().map_or(at(0), |t| t.parse().unwrap()),
        },
        ..endpoint_place()
    };
    Ok(Endpoint::new(request, &service, place))
}

pub(crate) const CREATE: &str = include_str!("../examples/a13-create-endpoint.json");

#[test]
fn creating_an_interface_endpoint_answers_as_documented() {
    let mut all = exchanges(CREATE);
    all.retain(|e| !GATEWAY.contains(&e.note.as_str()));
    assert_eq!(all.len(), 15);
    for exchange in &all {
        match create(exchange) {
            Ok(endpoint) => exchange.check_fields(&shown(&endpoint)),
            Err(error) => exchange.check_refusal(&error),
        }
    }
}

#[test]
fn accepting_and_rejecting_answer_as_documented() {
    for exchange in exchanges(include_str!("../examples/a10-accept-reject.json")) {
        let action = match ConnectionAction::parse(&exchange.body, true) {
            Ok(action) => action,
            Err(error) => {
                exchange.check_refusal(&error);
                continue;
            }
        };
        if exchange.note == "endpoint of another service" {
            // Which endpoint is whose is looked up by the operation; the request is well-formed.
            assert_eq!(exchange.reply["error_code"], Code::E2013.as_str());
            continue;
        }
        let documented = &exchange.reply["connections"][0];
        let mut endpoint = create(&exchanges(CREATE)[0]).unwrap();
        endpoint.id = action.endpoint;
        endpoint.domain = domain();
        endpoint.marker = serde_json::from_value(documented["marker_id"].clone()).unwrap();
        let now = documented["updated_at"].as_str().unwrap().parse().unwrap();
        match action.decision {
            Decision::Receive => {
                assert_eq!(endpoint.receive(now), Ok(true));
                // The sample's `accepted` is true once the gateway listens.
                assert_eq!(endpoint.status(), EndpointStatus::Creating);
                assert!(endpoint.accept(now));
            }
            Decision::Reject => assert_eq!(endpoint.reject(now), Ok(true)),
        }
        exchange.check_fields(&json!({"connections": [{
            "id": endpoint.id, "marker_id": endpoint.marker, "status": endpoint.status(),
            "domain_id": endpoint.domain, "created_at": endpoint.created.at, "updated_at": endpoint.updated_at,
        }]}));
    }
}
