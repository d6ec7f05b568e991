//! The calls of the Terraform provider and of gophertelekomcloud, in their order and as they judge the answers, with plain
//! requests: by a token, and signed with an access key in gopher's dialect.
//!
//! Rules that a client of its kind depends on are said where they are checked.

use serde_json::{Value, json};

use crate::{
    process::{PROJECT, Region, until},
    signed::{AccessKey, Client, Credentials},
};

/// The built-in region's tenant, and what gopher has of it in its environment.
const PROJECT_NAME: &str = "eu-de_demo";
const DOMAIN_NAME: &str = "demo-domain";
const VPC: &str = "4189d3c2-8882-4871-a3c2-d380272eed80";
const NETWORK: &str = "4189d3c2-8882-4871-a3c2-d380272eed81";
const SUBNET: &str = "4189d3c2-8882-4871-a3c2-d380272eed82";

/// A provider that has found its way: where the services are that it calls.
struct Provider {
    client: Client,
    vpcep: String,
    vpc: String,
    load_balancers: String,
}

/// The public address of a service, by its type and region, as gopher looks it up.
fn endpoint(catalog: &Value, kind: &str) -> String {
    let service = catalog
        .as_array()
        .unwrap()
        .iter()
        .find(|service| service["type"] == kind)
        .unwrap_or_else(|| panic!("no {kind} in {catalog}"));
    let endpoint = &service["endpoints"][0];
    assert_eq!(
        (&endpoint["interface"], &endpoint["region"]),
        (&json!("public"), &json!("eu-de"))
    );
    endpoint["url"].as_str().unwrap().trim_end_matches('/').to_owned()
}

impl Provider {
    fn of(client: Client, catalog: &Value, project: &str) -> Self {
        let network = endpoint(catalog, "network");
        let elb = endpoint(catalog, "elb");
        Self {
            client,
            vpcep: endpoint(catalog, "vpcep"),
            vpc: format!("{network}/v1/{project}"),
            load_balancers: format!("{}/v2.0/lbaas/loadbalancers", elb.trim_end_matches("/v1.0")),
        }
    }

    /// With a name and a password: one request for a token, whose answer has all that is needed.
    fn by_password(api: &str) -> Self {
        let domain = json!({"name": DOMAIN_NAME});
        let user = json!({"name": "demo", "password": "demo-password", "domain": domain});
        let mut client = Client::new(Credentials::None);
        let reply = client.post(
            &format!("{api}/v3/auth/tokens"),
            &json!({"auth": {
                "identity": {"methods": ["password"], "password": {"user": user}},
                "scope": {"project": {"name": PROJECT_NAME, "domain": domain}},
            }}),
        );
        assert_eq!(reply.status, 201);
        let token = &reply.json["token"];
        // gopher fails without an expiry that it can read.
        let expires = token["expires_at"].as_str().unwrap();
        assert!(expires.ends_with('Z') && expires.contains('T'), "{expires}");
        client.credentials = Credentials::Token(reply.header("x-subject-token"));
        Self::of(
            client,
            &token["catalog"],
            token["project"]["id"].as_str().unwrap(),
        )
    }

    /// With an access key: gopher finds its project and its domain by their names, and sends the domain's id alone from
    /// then on, so that the key has to imply a project.
    fn by_access_key(api: &str) -> Self {
        let key = AccessKey::demo();
        let mut client = Client::new(Credentials::Signed { key, domain: None });
        let projects = client.get(&format!("{api}/v3/projects?name={PROJECT_NAME}")).ok();
        let project = projects["projects"][0]["id"].as_str().unwrap();
        assert!(projects["links"]["next"].is_null(), "{projects}");
        let mut domain = Value::Null;
        for _ in 0..2 {
            let domains = client
                .get(&format!("{api}/v3/auth/domains?name={DOMAIN_NAME}"))
                .ok();
            domain = domains["domains"][0]["id"].clone();
        }
        client.credentials = Credentials::Signed {
            key,
            domain: Some(domain.as_str().unwrap().to_owned()),
        };
        let catalog = client.get(&format!("{api}/v3/auth/catalog")).ok();
        Self::of(client, &catalog["catalog"], project)
    }

    fn services(&self) -> String {
        format!("{}/vpc-endpoint-services", self.vpcep)
    }

    fn endpoints(&self) -> String {
        format!("{}/vpc-endpoints", self.vpcep)
    }

    /// A load balancer is used at once: nobody polls it.
    fn load_balancer(&self, name: &str) -> (String, String) {
        let body = json!({"loadbalancer": {"name": name, "vip_subnet_id": SUBNET}});
        let reply = self.client.post(&self.load_balancers, &body);
        assert!([201, 202].contains(&reply.status), "{reply:?}");
        let text = |field: &str| reply.json["loadbalancer"][field].as_str().unwrap().to_owned();
        (text("id"), text("vip_port_id"))
    }

    fn delete_load_balancer(&self, id: &str) {
        let reply = self.client.delete(&format!("{}/{id}", self.load_balancers));
        assert!([202, 204].contains(&reply.status), "{reply:?}");
    }

    /// A service behind a load balancer, `available`.
    fn service(&self, port: &str, more: Value) -> Value {
        // gopher sends the protocol always, empty where none was given.
        let mut body = json!({"port_id": port, "vpc_id": VPC, "service_name": "tf-service", "server_type": "LB",
            "service_type": "interface", "ports": [{"client_port": 8080, "server_port": 80, "protocol": ""}]});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let created = self.client.post(&self.services(), &body).ok();
        self.available(created["id"].as_str().unwrap());
        created
    }

    fn available(&self, service: &str) -> Value {
        until("the service", || {
            let seen = self.client.get(&format!("{}/{service}", self.services())).ok();
            assert!(
                ["creating", "available"].contains(&seen["status"].as_str().unwrap()),
                "{seen}"
            );
            (seen["status"] == "available").then_some(seen)
        })
    }

    fn delete_service(&self, id: &str) {
        let url = format!("{}/{id}", self.services());
        assert_eq!(self.client.delete(&url).status, 204);
        until("the end of the service", || {
            (self.client.get(&url).status == 404).then_some(())
        });
    }
}

/// gopher's own test of public services, and Terraform's data source of one.
fn public_services(provider: &Provider) {
    let url = format!("{}/public", provider.services());
    for _ in 0..2 {
        let listed = provider.client.get(&url).ok();
        let first = &listed["endpoint_services"][0];
        assert_eq!(first["owner"], "OTC");
        for field in ["id", "service_name", "service_type", "created_at"] {
            assert!(first[field].is_string(), "{first}");
        }
        // A text, as the document's sample has it, is more than Go's decoder takes.
        assert!(first["is_charge"].is_boolean(), "{first}");
    }
    let name = "com.t-systems.otc.eu-de.obs";
    let found = provider
        .client
        .get(&format!("{url}?endpoint_service_name={name}"))
        .ok();
    assert_eq!(found["total_count"], 1);
    let found = &found["endpoint_services"][0];
    assert_eq!(
        (&found["service_name"], &found["service_type"]),
        (&json!(name), &json!("gateway"))
    );
}

/// gopher's own test of the life of a service.
fn services_workflow(provider: &Provider) {
    let Provider { client, .. } = provider;
    let (balancer, port) = provider.load_balancer("tf-lb");
    let created = provider.service(&port, json!({}));
    let id = created["id"].as_str().unwrap();
    let listed = client.get(&format!("{}?id={id}", provider.services())).ok();
    assert_eq!(listed["endpoint_services"].as_array().unwrap().len(), 1);
    let seen = client.get(&format!("{}/{id}", provider.services())).ok();
    for field in ["port_id", "approval_enabled", "created_at"] {
        assert_eq!(seen[field], created[field], "{field}");
    }
    assert_eq!(seen["connection_count"], 0);
    assert_eq!(
        seen["ports"],
        json!([{"client_port": 8080, "server_port": 80, "protocol": "TCP"}])
    );
    let change = json!({"approval_enabled": false, "service_name": "edited-1a2b3"});
    let updated = client.put(&format!("{}/{id}", provider.services()), &change).ok();
    assert_eq!(updated["service_name"], format!("eu-de.edited-1a2b3.{id}"));
    assert_eq!(updated["approval_enabled"], false);
    provider.delete_service(id);
    provider.delete_load_balancer(&balancer);
}

/// gopher's own test of the life of an endpoint, and what Terraform checks of it.
fn endpoint_lifecycle(provider: &Provider) {
    let Provider { client, .. } = provider;
    let (balancer, port) = provider.load_balancer("tf-lb");
    let service = provider.service(&port, json!({"approval_enabled": false}));
    let service = service["id"].as_str().unwrap();
    let subnet = client.get(&format!("{}/subnets/{NETWORK}", provider.vpc)).ok();
    // An address near the bottom, where load balancers with automatic addresses must not be.
    let cidr = subnet["subnet"]["cidr"].as_str().unwrap();
    let address = cidr.replace(".0/24", ".3");
    let body = json!({"subnet_id": NETWORK, "endpoint_service_id": service, "vpc_id": VPC, "enable_dns": true,
        "port_ip": address, "tags": [{"key": "fizz", "value": "buzz"}]});
    let created = client.post(&provider.endpoints(), &body).ok();
    assert_eq!(created["status"], "creating");
    assert_eq!(created["endpoint_service_id"], service);
    let id = created["id"].as_str().unwrap();
    let url = format!("{}/{id}", provider.endpoints());
    let accepted = until("the endpoint", || {
        let seen = client.get(&url).ok();
        assert!(
            ["creating", "accepted"].contains(&seen["status"].as_str().unwrap()),
            "{seen}"
        );
        (seen["status"] == "accepted").then_some(seen)
    });
    assert_eq!(accepted["ip"], address);
    // Terraform has one name, and shows a difference where there are more.
    assert_eq!(accepted["dns_names"].as_array().unwrap().len(), 1);
    assert_eq!(accepted["tags"], json!([{"key": "fizz", "value": "buzz"}]));

    // Only what was added is listed: the owner's account is not.
    let permissions = format!("{}/{service}/permissions", provider.services());
    let records = json!(["iam:domain::5fc973eea581490997e82ea11a1df31f"]);
    let added = client.post(
        &format!("{permissions}/action"),
        &json!({"permissions": records, "action": "add"}),
    );
    assert_eq!(added.status, 200);
    assert_eq!(added.json["permissions"], records);
    let listed = client.get(&permissions).ok();
    assert_eq!(listed["permissions"][0]["permission"], records[0]);
    assert_eq!(listed["permissions"].as_array().unwrap().len(), 1);

    // The newest comes first, and a list is read twice by whoever looks for more pages.
    for _ in 0..2 {
        assert_eq!(client.get(&provider.endpoints()).ok()["endpoints"][0]["id"], id);
    }

    // One right after the other, each a success.
    assert_eq!(client.delete(&url).status, 204);
    assert_eq!(
        client
            .delete(&format!("{}/{service}", provider.services()))
            .status,
        204
    );
    provider.delete_load_balancer(&balancer);
    until("the end of the endpoint", || {
        (client.get(&url).status == 404).then_some(())
    });
}

/// Terraform: apply, read, change, destroy of a service with a whitelist.
fn apply_and_destroy(provider: &Provider) {
    let Provider { client, .. } = provider;
    let (balancer, port) = provider.load_balancer("tf-lb");
    let created = provider.service(
        &port,
        json!({"tags": [{"key": "k", "value": "v"}], "description": "by tf"}),
    );
    let id = created["id"].as_str().unwrap();
    let url = format!("{}/{id}", provider.services());
    let whitelist = |action: &str, accounts: &[&str]| {
        let permissions: Vec<_> = accounts.iter().map(|a| format!("iam:domain::{a}")).collect();
        let body = json!({"permissions": permissions, "action": action});
        let reply = client.post(&format!("{url}/permissions/action"), &body);
        assert_eq!(reply.status, 200);
        assert_eq!(reply.json["permissions"], json!(permissions));
    };
    whitelist("add", &["aaa", "bbb"]);
    // What is read again after an apply must show no difference.
    let seen = client.get(&url).ok();
    let name = seen["service_name"].as_str().unwrap();
    // The region is the part before the first dot, the short name the one before the second.
    assert_eq!(name.split('.').collect::<Vec<_>>(), ["eu-de", "tf-service", id]);
    for (field, value) in [
        ("tags", json!([{"key": "k", "value": "v"}])),
        (
            "ports",
            json!([{"client_port": 8080, "server_port": 80, "protocol": "TCP"}]),
        ),
        ("description", json!("by tf")),
        ("service_type", json!("interface")),
        ("server_type", json!("LB")),
        ("tcp_proxy", json!("close")),
        ("approval_enabled", json!(true)),
        ("connection_count", json!(0)),
    ] {
        assert_eq!(seen[field], value, "{field}");
    }
    // The data source: a name that hits exactly one.
    let by_name = client
        .get(&format!("{}?endpoint_service_name=TF-SERV", provider.services()))
        .ok();
    assert_eq!(by_name["endpoint_services"].as_array().unwrap().len(), 1);
    assert_eq!(by_name["endpoint_services"][0]["id"], id);

    let change = json!({"service_name": "tf-renamed", "approval_enabled": false,
        "ports": [{"client_port": 8081, "server_port": 81, "protocol": "TCP"}]});
    client.put(&url, &change).ok();
    let seen = provider.available(id);
    assert_eq!(seen["service_name"], format!("eu-de.tf-renamed.{id}"));
    assert_eq!(seen["ports"], change["ports"]);
    whitelist("remove", &["aaa"]);
    whitelist("add", &["ccc"]);
    let records = client.get(&format!("{url}/permissions")).ok();
    let mut listed: Vec<_> = records["permissions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| &r["permission"])
        .collect();
    listed.sort_by_key(|r| r.as_str());
    assert_eq!(json!(listed), json!(["iam:domain::bbb", "iam:domain::ccc"]));
    assert_eq!(records["total_count"], 2);
    provider.delete_service(id);
    provider.delete_load_balancer(&balancer);
}

/// Everything, by one way of proving who one is.
fn all(provider: &Provider) {
    public_services(provider);
    services_workflow(provider);
    endpoint_lifecycle(provider);
    apply_and_destroy(provider);
}

#[test]
fn terraform_by_password() {
    let region = Region::ephemeral();
    all(&Provider::by_password(&region.api));
}

#[test]
fn terraform_by_access_key() {
    let region = Region::ephemeral();
    all(&Provider::by_access_key(&region.api));
}

#[test]
fn terraform_by_access_key_refused() {
    let region = Region::ephemeral();
    for key in [
        AccessKey {
            secret: "wrong",
            ..AccessKey::demo()
        },
        AccessKey {
            access: "NOSUCHKEY",
            ..AccessKey::demo()
        },
    ] {
        let client = Client::new(Credentials::Signed { key, domain: None });
        let reply = client.get(&format!("{}/v1/{PROJECT}/vpc-endpoint-services", region.api));
        assert_eq!(
            (reply.status, &reply.json["error_code"]),
            (401, &json!("APIGW.0301"))
        );
    }
}
