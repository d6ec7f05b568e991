//! The region of the bench: one who publishes, one who uses, and quotas that are in nobody's way.

use std::path::Path;

use adit_model::id::{DomainId, ProjectId};

/// VPCs of each of the two, enough for a million endpoints: a provider's VPC has source addresses for 32,766 of them, a
/// consumer's subnet 65,533 addresses.
pub(crate) const VPCS: usize = 40;

/// A tenant.
pub(crate) struct Tenant {
    pub(crate) name: &'static str,
    pub(crate) access: &'static str,
    pub(crate) secret: &'static str,
    digit: char,
}

/// Publishes services.
pub(crate) const PROVIDER: Tenant = Tenant {
    name: "provider",
    access: "PROVIDERACCESSKEY000",
    secret: "provider-secret-key",
    digit: 'a',
};
/// Has endpoints.
pub(crate) const CONSUMER: Tenant = Tenant {
    name: "consumer",
    access: "CONSUMERACCESSKEY000",
    secret: "consumer-secret-key",
    digit: 'b',
};

impl Tenant {
    fn hex(&self, fill: char) -> String {
        format!("{}{}", self.digit, fill.to_string().repeat(31))
    }

    pub(crate) fn project(&self) -> ProjectId {
        self.hex('0').parse().unwrap()
    }

    pub(crate) fn domain(&self) -> DomainId {
        self.hex('1').parse().unwrap()
    }

    /// The id of one of the tenant's VPCs, its subnet, or another thing of it.
    pub(crate) fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(&self, vpc: usize, thing: u32) -> T {
        format!(
            "{0}{0}{0}{0}{0}{0}{0}{0}-0000-4000-8000-{vpc:04}{thing:08}",
            self.digit
        )
        .parse()
        .unwrap()
    }

    fn toml(&self, quotas: &str) -> String {
        let name = self.name;
        let mut text = format!(
            r#"
[[domains]]
name = "{name}-domain"
id = "{domain}"
[[domains.users]]
name = "{name}"
id = "{user}"
password = "{name}-password"
roles = {{ "{name}" = ["VPCEndpoint Administrator", "te_admin"] }}
[[domains.users.access_keys]]
access = "{access}"
secret = "{secret}"
project = "{name}"
[[domains.projects]]
name = "{name}"
id = "{project}"
quotas = {quotas}
"#,
            domain = self.domain(),
            user = self.hex('2'),
            project = self.project(),
            access = self.access,
            secret = self.secret,
        );
        for vpc in 0..VPCS {
            text += &format!(
                r#"
[[domains.projects.vpcs]]
name = "{name}-{vpc}"
id = "{id}"
cidr = "10.{vpc}.0.0/16"
[[domains.projects.vpcs.subnets]]
name = "{name}-{vpc}"
id = "{subnet}"
neutron_subnet_id = "{neutron}"
cidr = "10.{vpc}.0.0/16"
gateway = "10.{vpc}.0.1"
[[domains.projects.vpcs.subnets.ports]]
name = "{name}-{vpc}"
id = "{port}"
ip = "10.{vpc}.0.10"
device_owner = "compute:eu-de-01"
"#,
                id = self.id::<String>(vpc, 0),
                subnet = self.id::<String>(vpc, 1),
                neutron = self.id::<String>(vpc, 2),
                port = self.id::<String>(vpc, 3),
            );
        }
        text
    }
}

/// The region file.
pub(crate) fn text() -> String {
    format!(
        "name = \"eu-de\"\npool = \"b1d2a7c4-5e6f-4a3b-9c8d-7e6f5a4b3c2d\"\navailability_zones = [\"eu-de-01\"]\n{}{}",
        PROVIDER.toml("{ endpoint_service = 1_000_000, endpoint = 50 }"),
        CONSUMER.toml("{ endpoint_service = 20, endpoint = 10_000_000 }"),
    )
}

/// Writes the region file.
pub(crate) fn write(path: &Path) {
    std::fs::write(path, text()).unwrap();
}
