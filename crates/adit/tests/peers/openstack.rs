//! The `openstack` command, as a new user has it: installed by README's line, with the `clouds.yaml` that was printed.
//! Every command that otcextensions has for VPC endpoints, and the companions that lead to them.

use std::process::Output;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    process::{
        BACKEND_PORT, BACKEND_VPC, CLIENT_PORT, CLIENT_SUBNET, CLIENT_VPC, DOMAIN, OTHER_PROJECT, PROJECT,
        Region, until,
    },
    venv::Venv,
};

/// The other tenant's account.
const OTHER_DOMAIN: &str = "b4e2d3c5f6a7182930b4c5d6e7f8091a";

/// The command, and a region that it talks to.
struct OpenStack {
    venv: Venv,
    home: TempDir,
    region: Region,
}

impl OpenStack {
    fn start(test: &str) -> Option<Self> {
        Some(Self {
            venv: Venv::of("openstack", test)?,
            home: tempfile::tempdir().unwrap(),
            region: Region::ephemeral(),
        })
    }

    fn run(&self, cloud: &str, command: &str) -> Output {
        self.venv
            .command("openstack", self.home.path())
            .env("OS_CLIENT_CONFIG_FILE", self.region.clouds())
            .env("OS_CLOUD", cloud)
            .args(command.split_whitespace())
            .output()
            .unwrap()
    }

    /// What a command prints that succeeds.
    fn text(&self, cloud: &str, command: &str) -> String {
        let output = self.run(cloud, command);
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openstack {command}: {complaints}");
        assert!(complaints.is_empty(), "openstack {command}: {complaints}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The same, of a command that has a table to show.
    fn json(&self, cloud: &str, command: &str) -> Value {
        let text = self.text(cloud, &format!("{command} --format json"));
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("openstack {command}: {e}: {text}"))
    }

    /// What a command complains of that fails.
    fn refused(&self, cloud: &str, command: &str) -> String {
        let output = self.run(cloud, command);
        let complaints = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "openstack {command}: {complaints}");
        complaints
    }
}

/// One column of a list.
fn column<'a>(rows: &'a Value, name: &str) -> Vec<&'a Value> {
    rows.as_array().unwrap().iter().map(|row| &row[name]).collect()
}

/// The named fields alone.
fn fields(of: &Value, names: &[&str]) -> Value {
    names.iter().map(|n| ((*n).to_owned(), said(&of[*n]))).collect()
}

/// Without what the client adds to parts of a resource: a name, an id and a location that are null.
fn said(of: &Value) -> Value {
    match of {
        Value::Object(map) => map
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name.clone(), said(value)))
            .collect(),
        Value::Array(items) => items.iter().map(said).collect(),
        other => other.clone(),
    }
}

#[test]
fn openstack_finds_its_way_around_the_region() {
    let Some(os) = OpenStack::start("openstack_finds_its_way_around_the_region") else {
        return;
    };
    let api = &os.region.api;
    let token = os.json("demo", "token issue");
    assert_eq!(token["project_id"], PROJECT);
    let catalog = os.json("demo", "catalog list");
    let mut types: Vec<_> = column(&catalog, "Type");
    types.sort_by_key(|t| t.as_str());
    assert_eq!(
        json!(types),
        json!(["elb", "elbv3", "identity", "network", "vpc", "vpcep"])
    );
    let vpcep = os.json("demo", "catalog show vpcep");
    assert_eq!(vpcep["endpoints"][0]["url"], format!("{api}/v1/{PROJECT}"));
    let projects = os.json("demo", "project list --my-projects");
    assert!(column(&projects, "ID").contains(&&json!(PROJECT)), "{projects}");
    let project = os.json("demo", &format!("project show {PROJECT}"));
    assert_eq!(
        fields(&project, &["name", "domain_id"]),
        json!({"name": "eu-de_demo", "domain_id": DOMAIN})
    );
    let networks = os.json("other", "network list");
    assert_eq!(json!(column(&networks, "ID")), json!([CLIENT_SUBNET]));
    let network = os.json("other", &format!("network show {CLIENT_SUBNET}"));
    let subnet = network["subnets"][0].as_str().unwrap();
    let subnet = os.json("other", &format!("subnet show {subnet}"));
    assert_eq!(
        fields(&subnet, &["cidr", "network_id"]),
        json!({"cidr": "10.0.0.0/24", "network_id": CLIENT_SUBNET})
    );
    let routers = os.json("other", "router list");
    assert_eq!(json!(column(&routers, "ID")), json!([CLIENT_VPC]));
    let ports = os.json("other", &format!("port list --network {CLIENT_SUBNET}"));
    assert!(column(&ports, "ID").contains(&&json!(CLIENT_PORT)), "{ports}");
}

#[test]
fn openstack_publishes_and_changes_services() {
    let Some(os) = OpenStack::start("openstack_publishes_and_changes_services") else {
        return;
    };
    assert_eq!(os.json("demo", "vpcep service list"), json!([]));
    let backend = format!("--server-type VM --port-id {BACKEND_PORT} --router-id {BACKEND_VPC}");
    let created = os.json(
        "demo",
        &format!(
            "vpcep service create orders {backend} --ports client_port=5432,server_port=5432,protocol=TCP \
             --tcp-proxy close --service-type interface --tags key=env,value=prod"
        ),
    );
    let id = created["id"].as_str().unwrap();
    let name = format!("eu-de.orders.{id}");
    let shown = [
        "service_name",
        "status",
        "port_id",
        "router_id",
        "server_type",
        "service_type",
        "tcp_proxy",
        "is_approval_enabled",
        "connection_count",
        "description",
        "project_id",
        "ports",
        "tags",
    ];
    assert_eq!(
        fields(&created, &shown),
        json!({"service_name": name, "status": "creating", "port_id": BACKEND_PORT, "router_id": BACKEND_VPC,
            "server_type": "VM", "service_type": "interface", "tcp_proxy": "close", "is_approval_enabled": true,
            "connection_count": 0, "description": "", "project_id": PROJECT,
            "ports": [{"client_port": 5432, "server_port": 5432, "protocol": "TCP"}],
            "tags": [{"key": "env", "value": "prod"}]})
    );
    // By id and by whole name; a part of the name finds nothing.
    let by_id = until("the service", || {
        let by_id = os.json("demo", &format!("vpcep service show {id}"));
        (by_id["status"] == "available").then_some(by_id)
    });
    let by_name = os.json("demo", &format!("vpcep service show {name}"));
    assert_eq!(fields(&by_name, &shown), fields(&by_id, &shown));
    assert_eq!(by_name["domain_id"], DOMAIN);
    let complaint = os.refused("demo", "vpcep service show orders");
    assert!(complaint.contains("No Service found for orders"), "{complaint}");

    let updated = os.json(
        "demo",
        &format!(
            "vpcep service update {name} --name invoices --disable-approval --tcp-proxy close \
             --ports client_port=80,server_port=8080,protocol=TCP --ports client_port=81,server_port=8081,protocol=TCP"
        ),
    );
    let name = format!("eu-de.invoices.{id}");
    assert_eq!(
        fields(
            &updated,
            &["service_name", "is_approval_enabled", "ports", "status"]
        ),
        json!({"service_name": name, "is_approval_enabled": false, "status": "available",
            "ports": [{"client_port": 80, "server_port": 8080, "protocol": "TCP"},
                {"client_port": 81, "server_port": 8081, "protocol": "TCP"}]})
    );
    let listed = os.json(
        "demo",
        &format!(
            "vpcep service list --id {id} --name INVOICES --status available --sort-key updated_at --sort-dir asc \
             --limit 10"
        ),
    );
    assert_eq!(
        listed,
        json!([{"Id": id, "Service Name": name, "Service Type": "interface", "Server Type": "VM",
            "Connection Count": 0, "Status": "available"}])
    );
    assert_eq!(os.json("demo", "vpcep service list --offset 1"), json!([]));
    assert_eq!(
        os.json("demo", "vpcep quota list"),
        json!([{"Type": "endpoint", "Quota": 50, "Used": 0}, {"Type": "endpoint_service", "Quota": 20, "Used": 1}])
    );
    assert_eq!(
        os.json("demo", "vpcep quota list --type endpoint_service"),
        json!([{"Type": "endpoint_service", "Quota": 20, "Used": 1}])
    );
    // What is refused says why by its code, and leaves a status that scripts see.
    for (cloud, ports, code) in [
        (
            "demo",
            "client_port=80,server_port=8081,protocol=TCP",
            "EndPoint.3044",
        ),
        (
            "demo",
            "client_port=70000,server_port=90,protocol=TCP",
            "EndPoint.3004",
        ),
        (
            "viewer",
            "client_port=80,server_port=90,protocol=TCP",
            "EndPoint.0004",
        ),
    ] {
        let complaint = os.refused(
            cloud,
            &format!("vpcep service create x {backend} --ports {ports}"),
        );
        assert!(complaint.contains(code), "{complaint}");
    }
    assert_eq!(os.text("demo", &format!("vpcep service delete {name}")), "");
    assert_eq!(os.json("demo", "vpcep service list"), json!([]));
    let complaint = os.refused("demo", &format!("vpcep service delete {id}"));
    assert!(complaint.contains("1 of 1"), "{complaint}");
}

#[test]
fn openstack_lets_in_and_connects() {
    let Some(os) = OpenStack::start("openstack_lets_in_and_connects") else {
        return;
    };
    let service = os.json(
        "demo",
        &format!(
            "vpcep service create web --server-type VM --port-id {BACKEND_PORT} --router-id {BACKEND_VPC} \
             --ports client_port=80,server_port=80,protocol=TCP"
        ),
    );
    let service = service["id"].as_str().unwrap();
    until("the service", || {
        let seen = os.json("demo", &format!("vpcep service show {service}"));
        (seen["status"] == "available").then_some(())
    });
    let create = format!(
        "vpcep endpoint create --service-id {service} --router-id {CLIENT_VPC} --network-id {CLIENT_SUBNET} \
         --port-ip 10.0.0.77 --enable-dns --enable-whitelist --whitelist 10.0.0.0/8 192.0.2.1 --tags key=a,value=b \
         --description mine"
    );
    let complaint = os.refused("other", &create);
    assert!(complaint.contains("EndPoint.2012"), "{complaint}");

    // The command writes `iam:domain::` before what it is given.
    let set = format!("vpcep service whitelist set {service}");
    let record = format!("iam:domain::{OTHER_DOMAIN}");
    let added = os.json("demo", &format!("{set} {OTHER_DOMAIN} * --add"));
    assert_eq!(
        added,
        json!([{"Permission": record}, {"Permission": "iam:domain::*"}])
    );
    let removed = os.json("demo", &format!("{set} * --remove"));
    assert_eq!(removed, json!([{"Permission": "iam:domain::*"}]));
    let list =
        format!("vpcep service whitelist list {service} --sort-key created_at --sort-dir asc --limit 5");
    assert_eq!(
        json!(column(&os.json("demo", &list), "Permission")),
        json!([record])
    );

    let created = os.json("other", &create);
    let id = created["id"].as_str().unwrap();
    let names = [
        "status",
        "endpoint_service_id",
        "router_id",
        "network_id",
        "is_enabled",
        "is_dns_enabled",
        "is_whitelist_enabled",
        "description",
        "specification_name",
        "active_status",
        "whitelist",
    ];
    let expected = json!({"status": "pendingAcceptance", "endpoint_service_id": service, "router_id": CLIENT_VPC,
        "network_id": CLIENT_SUBNET, "is_enabled": true, "is_dns_enabled": true, "is_whitelist_enabled": true,
        "description": "mine", "specification_name": "default", "active_status": ["active"],
        "whitelist": ["10.0.0.0/8", "192.0.2.1"]});
    assert_eq!(fields(&created, &names), expected);
    let marker = created["marker_id"].as_u64().unwrap();

    let connections = os.json(
        "demo",
        &format!(
            "vpcep service connection list {service} --id {id} --marker-id {marker} --sort-key updated_at"
        ),
    );
    assert_eq!(
        fields(&connections[0], &["Id", "Domain Id", "Status"]),
        json!({"Id": id, "Domain Id": OTHER_DOMAIN, "Status": "pendingAcceptance"})
    );
    for (decision, status) in [("--reject", "rejected"), ("--accept", "accepted")] {
        let decided = os.json(
            "demo",
            &format!("vpcep service connection set {service} {id} {decision}"),
        );
        assert_eq!(json!(column(&decided, "Status")), json!([status]));
        let connections = os.json("demo", &format!("vpcep service connection list {service}"));
        assert_eq!(json!(column(&connections, "Status")), json!([status]));
    }
    let shown = os.json("other", &format!("vpcep endpoint show {id}"));
    assert_eq!(
        fields(&shown, &["status", "ip", "dns_names", "tags"]),
        json!({"status": "accepted", "ip": "10.0.0.77", "tags": [{"key": "a", "value": "b"}],
            "dns_names": [format!("vpcep-{id}.eu-de.vpcep.internal")]})
    );
    let listed = os.json(
        "other",
        &format!("vpcep endpoint list --id {id} --service-name WEB --sort-dir asc"),
    );
    assert_eq!(
        listed,
        json!([{"Id": id, "Endpoint Service Name": format!("eu-de.web.{service}"), "Status": "accepted", "Is Enabled": true}])
    );
    assert_eq!(
        os.json("other", "vpcep quota list --type endpoint"),
        json!([{"Type": "endpoint", "Quota": 50, "Used": 1}])
    );

    let complaint = os.refused("demo", &format!("vpcep service delete {service}"));
    assert!(complaint.contains("EndPoint.3006"), "{complaint}");
    // One right after the other.
    assert_eq!(os.text("other", &format!("vpcep endpoint delete {id}")), "");
    assert_eq!(os.text("demo", &format!("vpcep service delete {service}")), "");
    let complaint = os.refused("other", &format!("vpcep endpoint show {id}"));
    assert!(complaint.contains("EndPoint.2006"), "{complaint}");
    assert_eq!(os.json("other", "vpcep endpoint list"), json!([]));
    assert_eq!(
        os.json("other", "project list --my-projects")[0]["ID"],
        OTHER_PROJECT
    );
}
