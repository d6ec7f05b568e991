//! From what the operator said to what the API is asked, and to how its reply is shown. Pure.

use serde_json::{Value, json};

use crate::admin::{
    args::{
        Account, Connection, Endpoint, Freeze, Listed, NewPublicService, Pool, PublicService, Quota, Service,
        Vpc, What, Whitelist,
    },
    view::{Column, View, at, of},
};

/// One request below `/admin/v1`, or, for a list, its first page.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Order {
    pub(super) method: &'static str,
    /// Its path below `/admin/v1`, without a leading slash.
    pub(super) path: String,
    pub(super) query: Vec<(&'static str, String)>,
    pub(super) body: Option<Value>,
    pub(super) view: View,
    /// Of a list, at most so many; all of them where it is none.
    pub(super) limit: Option<usize>,
}

const QUOTAS: &[Column] = &[
    at("PROJECT", "/project_id"),
    at("ACCOUNT", "/domain_id"),
    of("SERVICES", "/endpoint_service/used", "/endpoint_service/quota"),
    of("ENDPOINTS", "/endpoint/used", "/endpoint/quota"),
];
const QUOTA: &[Column] = &[at("TYPE", "/type"), at("USED", "/used"), at("QUOTA", "/quota")];
const ACCOUNTS: &[Column] = &[
    at("ACCOUNT", "/domain_id"),
    at("STATE", "/active_status"),
    at("SERVICES", "/services"),
    at("ENDPOINTS", "/endpoints"),
];
const SERVICES: &[Column] = &[
    at("ID", "/id"),
    at("NAME", "/service_name"),
    at("TYPE", "/service_type"),
    at("STATE", "/status"),
    at("PROJECT", "/project_id"),
    at("VPC", "/vpc_id"),
    at("CONNECTIONS", "/connection_count"),
];
const PUBLIC_SERVICES: &[Column] = &[
    at("ID", "/id"),
    at("NAME", "/service_name"),
    at("TYPE", "/service_type"),
    at("STATE", "/status"),
    at("OWNER", "/owner"),
    at("PORT", "/port_id"),
    at("PREFIXES", "/prefixes"),
    at("CONNECTIONS", "/connection_count"),
];
const ENDPOINTS: &[Column] = &[
    at("ID", "/id"),
    at("SERVICE", "/endpoint_service_id"),
    at("STATE", "/status"),
    at("SWITCH", "/enable_status"),
    at("ACCOUNT STATE", "/active_status"),
    at("PROJECT", "/project_id"),
    at("VPC", "/vpc_id"),
    at("IP", "/ip"),
];
const CONNECTIONS: &[Column] = &[
    at("ENDPOINT", "/id"),
    at("MARKER", "/marker_id"),
    at("STATE", "/status"),
    at("BY ACCOUNT", "/domain_id"),
    at("TO SERVICE", "/endpoint_service_id"),
    at("OF PROJECT", "/service_project_id"),
];
const RECORDS: &[Column] = &[
    at("SERVICE", "/endpoint_service_id"),
    at("RECORD", "/permission"),
    at("DESCRIPTION", "/description"),
    at("SINCE", "/created_at"),
];
const VPCS: &[Column] = &[
    at("ID", "/id"),
    at("NAME", "/name"),
    at("CIDR", "/cidr"),
    at("PROJECT", "/project_id"),
    at("SUBNETS", "/subnets"),
    at("SERVICES", "/services"),
    at("ENDPOINTS", "/endpoints"),
];
const POOLS: &[Column] = &[
    at("ID", "/id"),
    at("NAME", "/name"),
    at("DEFAULT", "/default"),
    at("SERVICES", "/services"),
    at("ENDPOINTS", "/endpoints"),
];

const GATEWAYS: &[Column] = &[
    at("NAME", "/name"),
    at("STATE", "/status"),
    at("ADDRESS", "/address"),
    at("VERSION", "/version"),
    at("SHARDS", "/shards"),
    at("ENDPOINTS", "/endpoints"),
    at("CONNECTIONS", "/connections"),
    at("SEEN", "/seen_at"),
];

impl Order {
    /// What the API is asked.
    pub(super) fn of(what: What) -> Self {
        match what {
            What::Quota(command) => quota(command),
            What::Account(command) => account(command),
            What::Service(command) => service(command),
            What::PublicService(command) => public_service(command),
            What::Endpoint(command) => endpoint(command),
            What::Connection(command) => connection(command),
            What::Whitelist(command) => whitelist(command),
            What::Vpc(command) => vpc(command),
            What::Pool(command) => pool(command),
        }
    }

    /// Why an endpoint does not pass traffic.
    pub(super) fn diagnosis(endpoint: &str, question: Value) -> Self {
        let path = format!("endpoints/{}/diagnosis", part(endpoint));
        Self::new("POST", path, View::Item).with(question)
    }

    /// The gateways that are processes of their own.
    pub(super) fn gateways() -> Self {
        list("gateways", "gateways", GATEWAYS, Listed::default(), [])
    }

    /// Takes all endpoints off a gateway, or lets it have its share again.
    pub(super) fn drain(gateway: &str, draining: bool) -> Self {
        Self::new("PUT", format!("gateways/{}", part(gateway)), View::Item)
            .with(json!({"draining": draining}))
    }

    /// Forgets a gateway that is gone.
    pub(super) fn forget(gateway: &str) -> Self {
        Self::new("DELETE", format!("gateways/{}", part(gateway)), View::Nothing)
    }

    fn new(method: &'static str, path: impl Into<String>, view: View) -> Self {
        Self {
            method,
            path: path.into(),
            query: Vec::new(),
            body: None,
            view,
            limit: None,
        }
    }

    fn show(path: String) -> Self {
        Self::new("GET", path, View::Item)
    }

    fn with(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }
}

/// A list of the `key` in the reply, of whose entries those are wanted that `filters` say.
fn list(
    path: &str,
    key: &'static str,
    columns: &'static [Column],
    listed: Listed,
    filters: impl IntoIterator<Item = (&'static str, Option<String>)>,
) -> Order {
    let Listed {
        project_id,
        domain_id,
        limit,
    } = listed;
    let filters = [("project_id", project_id), ("domain_id", domain_id)]
        .into_iter()
        .chain(filters);
    Order {
        query: filters.filter_map(|(name, value)| Some((name, value?))).collect(),
        limit,
        ..Order::new("GET", path, View::List { key, columns })
    }
}

fn quota(command: Quota) -> Order {
    let view = View::Inner {
        at: "/quotas/resources",
        columns: QUOTA,
    };
    match command {
        Quota::List(listed) => list("projects", "projects", QUOTAS, listed, []),
        Quota::Show { project } => Order::new("GET", format!("projects/{}/quotas", part(&project)), view),
        Quota::Set {
            project,
            services,
            endpoints,
        } => {
            let mut body = json!({});
            if let Some(n) = services {
                body["endpoint_service"] = json!(n);
            }
            if let Some(n) = endpoints {
                body["endpoint"] = json!(n);
            }
            Order::new("PUT", format!("projects/{}/quotas", part(&project)), view).with(body)
        }
    }
}

fn account(command: Account) -> Order {
    let one = |account: &str| format!("accounts/{}", part(account));
    match command {
        Account::List(listed) => list("accounts", "accounts", ACCOUNTS, listed, []),
        Account::Show { account } => Order::show(one(&account)),
        Account::Freeze {
            account,
            why,
            drain_s,
        } => {
            let why: Vec<_> = why.into_iter().map(Freeze::word).collect();
            let body = drained(json!({"active_status": why}), drain_s);
            Order::new("PUT", one(&account), View::Item).with(body)
        }
        Account::Unfreeze { account } => {
            Order::new("PUT", one(&account), View::Item).with(json!({"active_status": ["active"]}))
        }
    }
}

/// Says with an order that ends connections how long they may go on, as far as that was said.
fn drained(mut body: Value, drain_s: Option<u32>) -> Value {
    if let Some(seconds) = drain_s {
        body["drain_s"] = json!(seconds);
    }
    body
}

impl Freeze {
    /// The API's word for it.
    fn word(self) -> &'static str {
        match self {
            Freeze::Arrear => "arrear_frozen",
            Freeze::Verify => "verify_frozen",
            Freeze::Police => "police_frozen",
            Freeze::Illegal => "illegal_frozen",
            Freeze::Partner => "partner_frozen",
        }
    }
}

fn service(command: Service) -> Order {
    match command {
        Service::List {
            listed,
            name,
            status,
            vpc_id,
            pool_id,
        } => {
            let filters = [
                ("endpoint_service_name", name),
                ("status", status),
                ("vpc_id", vpc_id),
                ("pool_id", pool_id),
            ];
            list("services", "services", SERVICES, listed, filters)
        }
        Service::Show { id } => Order::show(format!("services/{}", part(&id))),
        Service::Set { id, proxy_profile } => {
            let profile = Some(proxy_profile).filter(|profile| profile != "default");
            Order::new("PUT", format!("services/{}", part(&id)), View::Item)
                .with(json!({"proxy_profile": profile}))
        }
    }
}

fn public_service(command: PublicService) -> Order {
    match command {
        PublicService::List { listed, name } => {
            let filters = [
                ("public", Some("true".to_owned())),
                ("endpoint_service_name", name),
            ];
            list("services", "services", PUBLIC_SERVICES, listed, filters)
        }
        PublicService::Show { id } => Order::show(format!("services/{}", part(&id))),
        PublicService::Create(new) => Order::new("POST", "services", View::Item).with(new.body()),
        PublicService::Delete { id } => {
            Order::new("DELETE", format!("services/{}", part(&id)), View::Nothing)
        }
    }
}

impl NewPublicService {
    /// The request's body; what was not said is not in it.
    fn body(self) -> Value {
        let mapping =
            |(client, server)| json!({"client_port": client, "server_port": server, "protocol": "TCP"});
        let ports: Vec<Value> = self.ports.into_iter().map(mapping).collect();
        let gateway = !self.prefix.is_empty();
        let mut body = json!({
            "service_name": self.name, "project_id": self.project_id, "vpc_id": self.vpc_id, "ports": ports,
            "service_type": if gateway { "gateway" } else { "interface" },
        });
        if gateway {
            body["prefixes"] = json!(self.prefix);
        }
        if self.is_charge {
            body["is_charge"] = json!(true);
        }
        for (name, value) in [
            ("port_id", self.port_id),
            ("server_type", self.server_type),
            ("owner", self.owner),
            ("tcp_proxy", self.tcp_proxy),
            ("description", self.description),
            ("pool_id", self.pool_id),
        ] {
            if let Some(value) = value {
                body[name] = json!(value);
            }
        }
        body
    }
}

fn endpoint(command: Endpoint) -> Order {
    let one = |id: &str| format!("endpoints/{}", part(id));
    let switch = |id: &str, switch| Order::new("PUT", one(id), View::Item).with(switch);
    match command {
        Endpoint::List {
            listed,
            service_id,
            service_name,
            status,
            vpc_id,
            disabled,
        } => {
            let filters = [
                ("endpoint_service_id", service_id),
                ("endpoint_service_name", service_name),
                ("status", status),
                ("vpc_id", vpc_id),
                ("enable_status", disabled.then(|| "disable".to_owned())),
            ];
            list("endpoints", "endpoints", ENDPOINTS, listed, filters)
        }
        Endpoint::Show { id } => Order::show(one(&id)),
        Endpoint::Enable { id } => switch(&id, json!({"enable_status": "enable"})),
        Endpoint::Disable { id, drain_s } => {
            switch(&id, drained(json!({"enable_status": "disable"}), drain_s))
        }
    }
}

fn connection(command: Connection) -> Order {
    let Connection::List {
        listed,
        service_id,
        marker_id,
        status,
    } = command;
    let filters = [
        ("endpoint_service_id", service_id),
        ("marker_id", marker_id),
        ("status", status),
    ];
    list("connections", "connections", CONNECTIONS, listed, filters)
}

fn whitelist(command: Whitelist) -> Order {
    let Whitelist::List {
        listed,
        service_id,
        permission,
    } = command;
    let filters = [("endpoint_service_id", service_id), ("permission", permission)];
    list("permissions", "permissions", RECORDS, listed, filters)
}

fn vpc(command: Vpc) -> Order {
    match command {
        Vpc::List(listed) => list("vpcs", "vpcs", VPCS, listed, []),
        Vpc::Show { id } => Order::show(format!("vpcs/{}", part(&id))),
    }
}

fn pool(command: Pool) -> Order {
    match command {
        Pool::List => list("pools", "pools", POOLS, Listed::default(), []),
        Pool::Create { name } => Order::new("POST", "pools", View::Item).with(json!({"name": name})),
        Pool::Delete { id } => Order::new("DELETE", format!("pools/{}", part(&id)), View::Nothing),
    }
}

/// A text as one part of a path.
pub(super) fn part(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn order(words: &str) -> Order {
        let words = ["adit", "admin"].into_iter().chain(words.split(' '));
        let Command::Admin(admin) = Cli::try_parse_from(words).unwrap().command else {
            panic!("not admin")
        };
        Order::of(admin.what)
    }

    #[test]
    fn every_command_is_one_request() {
        for (words, method, path, body) in [
            ("quota show p", "GET", "projects/p/quotas", None),
            (
                "quota set p --services 0",
                "PUT",
                "projects/p/quotas",
                Some(json!({"endpoint_service": 0})),
            ),
            (
                "quota set p --endpoints 7 --services 3",
                "PUT",
                "projects/p/quotas",
                Some(json!({"endpoint_service": 3, "endpoint": 7})),
            ),
            ("account show a/b", "GET", "accounts/a%2Fb", None),
            (
                "account freeze a",
                "PUT",
                "accounts/a",
                Some(json!({"active_status": ["arrear_frozen"]})),
            ),
            (
                "account freeze a --drain-s 30",
                "PUT",
                "accounts/a",
                Some(json!({"active_status": ["arrear_frozen"], "drain_s": 30})),
            ),
            (
                "account freeze a --as police --as partner",
                "PUT",
                "accounts/a",
                Some(json!({"active_status": ["police_frozen", "partner_frozen"]})),
            ),
            (
                "account unfreeze a",
                "PUT",
                "accounts/a",
                Some(json!({"active_status": ["active"]})),
            ),
            ("service show s", "GET", "services/s", None),
            (
                "service set s --proxy-profile aws",
                "PUT",
                "services/s",
                Some(json!({"proxy_profile": "aws"})),
            ),
            (
                "service set s --proxy-profile default",
                "PUT",
                "services/s",
                Some(json!({"proxy_profile": null})),
            ),
            ("public-service show s", "GET", "services/s", None),
            ("public-service delete s", "DELETE", "services/s", None),
            (
                "public-service create n --project-id p --vpc-id v --port-id o --server-type VM --port 53:5353 --port 80",
                "POST",
                "services",
                Some(
                    json!({"service_name": "n", "project_id": "p", "vpc_id": "v", "service_type": "interface",
                    "port_id": "o", "server_type": "VM", "ports": [
                        {"client_port": 53, "server_port": 5353, "protocol": "TCP"},
                        {"client_port": 80, "server_port": 80, "protocol": "TCP"}]}),
                ),
            ),
            (
                "public-service create n --project-id p --vpc-id v --prefix 100.64.0.0/16 --port 443 --owner me \
                 --is-charge --tcp-proxy close --description d --pool-id q",
                "POST",
                "services",
                Some(
                    json!({"service_name": "n", "project_id": "p", "vpc_id": "v", "service_type": "gateway",
                    "prefixes": ["100.64.0.0/16"], "owner": "me", "is_charge": true, "tcp_proxy": "close",
                    "description": "d", "pool_id": "q",
                    "ports": [{"client_port": 443, "server_port": 443, "protocol": "TCP"}]}),
                ),
            ),
            ("endpoint show e", "GET", "endpoints/e", None),
            (
                "endpoint disable e --drain-s 30",
                "PUT",
                "endpoints/e",
                Some(json!({"enable_status": "disable", "drain_s": 30})),
            ),
            (
                "endpoint disable e",
                "PUT",
                "endpoints/e",
                Some(json!({"enable_status": "disable"})),
            ),
            (
                "endpoint enable e",
                "PUT",
                "endpoints/e",
                Some(json!({"enable_status": "enable"})),
            ),
            ("vpc show v", "GET", "vpcs/v", None),
            ("pool create edge", "POST", "pools", Some(json!({"name": "edge"}))),
            ("pool delete p", "DELETE", "pools/p", None),
        ] {
            let order = order(words);
            assert_eq!(
                (order.method, order.path.as_str(), order.body),
                (method, path, body),
                "{words}"
            );
        }
    }

    #[test]
    fn filters_of_lists_are_the_api_s() {
        for (words, path, query) in [
            ("quota list", "projects", vec![]),
            ("account list --domain-id d", "accounts", vec![("domain_id", "d")]),
            (
                "service list --project-id p --name n --status failed --vpc-id v --pool-id o",
                "services",
                vec![
                    ("project_id", "p"),
                    ("endpoint_service_name", "n"),
                    ("status", "failed"),
                    ("vpc_id", "v"),
                    ("pool_id", "o"),
                ],
            ),
            (
                "public-service list --name n",
                "services",
                vec![("public", "true"), ("endpoint_service_name", "n")],
            ),
            (
                "endpoint list --service-id s --disabled",
                "endpoints",
                vec![("endpoint_service_id", "s"), ("enable_status", "disable")],
            ),
            (
                "connection list --marker-id 7",
                "connections",
                vec![("marker_id", "7")],
            ),
            (
                "whitelist list --permission *",
                "permissions",
                vec![("permission", "*")],
            ),
            ("vpc list", "vpcs", vec![]),
            ("pool list", "pools", vec![]),
        ] {
            let order = order(words);
            let query: Vec<_> = query.into_iter().map(|(n, v)| (n, v.to_owned())).collect();
            assert_eq!(
                (order.method, order.path.as_str(), order.query),
                ("GET", path, query),
                "{words}"
            );
        }
        assert_eq!(order("vpc list --limit 3").limit, Some(3));
    }

    #[test]
    fn a_quota_without_a_figure_is_none() {
        assert!(Cli::try_parse_from(["adit", "admin", "quota", "set", "p"]).is_err());
    }
}
