//! The documented exchanges about services: creating (A.4), changing (A.7), whitelist (A.12).
//!
//! The samples say what is asked and what is answered; what the request meets is made to fit each sample's note. Their
//! `error_msg` is the catalogue's; ours goes on to name the field and the value.

use adit_model::{
    ApiError,
    body::Body,
    id::{PoolId, ServiceId, VpcId},
    network::{PortKind, PortView},
    port_mapping::{Claim, Claims, Protocol},
    quota::Usage,
    service::{Service, ServiceCreate, ServiceFacts, ServicePlace, ServiceStatus, ServiceUpdate},
    time::Created,
    whitelist::{Action, Whitelist, WhitelistAction},
};
use serde_json::{Value, json};

use crate::sample::{REGION, at, domain, fault, object, project, uuid, vpc_view};

/// One documented exchange.
pub(crate) struct Exchange {
    pub(crate) note: String,
    pub(crate) body: Body,
    pub(crate) status: u64,
    pub(crate) reply: Value,
}

pub(crate) fn exchanges(json: &str) -> Vec<Exchange> {
    let file: Value = serde_json::from_str(json).unwrap();
    let read = |e: &Value| Exchange {
        note: e["note"].as_str().unwrap_or_default().to_owned(),
        body: match &e["request"]["body"] {
            Value::Null => Body::new(),
            body => object(body.clone()),
        },
        status: e["response"]["status"].as_u64().unwrap(),
        reply: e["response"]["body"].clone(),
    };
    file["exchanges"].as_array().unwrap().iter().map(read).collect()
}

impl Exchange {
    pub(crate) fn check_refusal(&self, error: &ApiError) {
        assert_eq!(
            error.code.as_str(),
            self.reply["error_code"],
            "{}: {error}",
            self.note
        );
        assert_eq!(u64::from(error.code.status()), self.status, "{}", self.note);
        let documented = self.reply["error_msg"].as_str().unwrap();
        assert!(error.message.starts_with(documented), "{}: {error}", self.note);
    }

    /// Every field that the sample shows has the sample's value.
    pub(crate) fn check_fields(&self, shown: &Value) {
        assert_eq!(self.status, 200, "{}", self.note);
        for (name, value) in self.reply.as_object().unwrap() {
            assert_eq!(shown[name], *value, "{}: {name}", self.note);
        }
    }
}

/// The document under the names of spec 0.7.
fn shown(s: &Service) -> Value {
    json!({
        "id": s.id, "port_id": s.port().unwrap().id, "vpc_id": s.vpc, "pool_id": s.pool, "service_name": s.name,
        "service_type": s.service_type(), "server_type": s.port().unwrap().server_type, "approval_enabled": s.approval_enabled,
        "status": s.status(), "project_id": s.project, "ports": s.ports, "tcp_proxy": s.tcp_proxy, "tags": s.tags,
        "description": s.description, "created_at": s.created.at, "updated_at": s.updated_at,
    })
}

fn pool() -> PoolId {
    "de321837-8360-5c8c-a190-05268a5448e7".parse().unwrap()
}

/// The answer to a create exchange: the document or the refusal.
fn create(exchange: &Exchange) -> Result<Service, ApiError> {
    let note = exchange.note.as_str();
    let request = ServiceCreate::parse(&exchange.body, false)?;
    let cidr = match note {
        "VPC overlaps 198.19.128.0/17" => "198.18.0.0/15",
        _ => "192.168.0.0/16",
    };
    let routes: &[&str] = match note {
        "custom route overlaps 198.19.128.0/17" => &["198.19.200.0/24"],
        _ => &[],
    };
    let vpc = vpc_view(request.vpc, &[cidr], routes);
    let port = PortView {
        id: request.port,
        vpc: Some(match note {
            "port in another VPC" => VpcId(uuid(99)),
            _ => request.vpc,
        }),
        ip: Some([192, 168, 0, 10].into()),
        kind: PortKind::Unknown,
    };
    let claims = match note {
        "pair already used on this port_id" => vec![Claim {
            server_port: 8443,
            protocol: Protocol::Tcp,
            service: ServiceId(uuid(99)),
        }],
        _ => Vec::new(),
    };
    let id = exchange.reply["id"]
        .as_str()
        .map_or(ServiceId(uuid(3)), |id| id.parse().unwrap());
    let facts = ServiceFacts {
        vpc: (note != "VPC unknown").then_some(&vpc),
        port: (note != "port unknown").then_some(&port),
        pools: &[pool()],
        claims: &Claims { claims },
        services_per_port_max: None,
        quota: Usage {
            used: if note == "21st service" { 20 } else { 0 },
            quota: 20,
        },
    };
    request.check(id, &facts)?;
    let created = exchange.reply["created_at"]
        .as_str()
        .map_or(at(0), |t| t.parse().unwrap());
    let place = ServicePlace {
        id,
        project: project(),
        domain: domain(),
        region: REGION,
        pool: pool(),
        backend_ip: port.ip,
        quota_slot: Some(0),
        created: Created {
            order: 1,
            at: created,
        },
    };
    Ok(Service::new(request, place))
}

const CREATE: &str = include_str!("../examples/a04-create-service.json");

#[test]
fn creating_answers_as_documented() {
    let all = exchanges(CREATE);
    assert_eq!(all.len(), 33);
    for exchange in &all {
        match create(exchange) {
            Ok(service) => exchange.check_fields(&shown(&service)),
            Err(error) => exchange.check_refusal(&error),
        }
    }
}

#[test]
fn changing_answers_as_documented() {
    let created = create(&exchanges(CREATE)[0]).unwrap();
    for exchange in exchanges(include_str!("../examples/a07-update-service.json")) {
        let mut service = created.clone();
        if exchange.note != "still building" {
            service.build(created.updated_at);
        }
        let now = exchange.reply["updated_at"]
            .as_str()
            .map_or(at(0), |t| t.parse().unwrap());
        let done = ServiceUpdate::parse(&exchange.body, false).and_then(|u| service.update(u, REGION, now));
        match done {
            Ok(()) => exchange.check_fields(&shown(&service)),
            Err(error) => exchange.check_refusal(&error),
        }
    }
}

#[test]
fn the_whitelist_changes_as_documented() {
    let mut list = Whitelist::default();
    let texts = |list: &Whitelist| {
        list.records
            .iter()
            .map(|r| r.permission.clone())
            .collect::<Vec<_>>()
    };
    for exchange in exchanges(include_str!("../examples/a12-permissions-action.json")) {
        let action = match WhitelistAction::parse(&exchange.body, false) {
            Ok(action) => action,
            Err(error) => {
                exchange.check_refusal(&error);
                continue;
            }
        };
        let before = list.clone();
        let shown = match action.action {
            Action::Add => {
                list = list
                    .add(
                        action.permissions.iter().map(|p| (p.as_str(), "")),
                        Created::default,
                    )
                    .unwrap();
                texts(&list)
            }
            Action::Remove => {
                list = list.remove(&action.permissions);
                let mut gone = texts(&before);
                gone.retain(|p| !texts(&list).contains(p));
                gone
            }
        };
        exchange.check_fields(&json!({"permissions": shown}));
    }
}

#[test]
fn a_failed_service_says_why_in_the_documented_shape() {
    let mut service = create(&exchanges(CREATE)[0]).unwrap();
    assert!(service.fail(fault(), at(0)));
    assert_eq!(service.status(), ServiceStatus::Failed);
    let error = json!([service.fault()]);
    assert_eq!(
        error,
        json!([{"error_code": "EndPoint.3001", "error_message": "Failed to create a port. for a test"}])
    );
}
