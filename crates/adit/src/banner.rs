//! What `adit dev` says of a region that is ready: to the person, and in the file for clients.

use std::{fmt::Write as _, path::Path, time::Duration};

use crate::{data::default_path, dev::Served, terminal::quoted};

/// The file for OpenStack clients, with every user of the region.
pub(crate) fn clouds_yaml(served: &Served) -> String {
    let region = served.running.cloud.region();
    let mut text = String::from("# Written by `adit dev` at each start.\nclouds:\n");
    for login in region.logins() {
        let _ = write!(
            text,
            "  {}:\n    auth:\n      auth_url: {}/v3\n      username: {}\n      password: {}\n      \
             user_domain_name: {}\n      project_domain_name: {}\n      project_name: {}\n    region_name: {}\n    \
             interface: public\n",
            login.user,
            served.api,
            login.user,
            login.password,
            login.domain,
            login.domain,
            login.project,
            region.name
        );
        if let Some(cacert) = &served.cacert {
            // A path as JSON is one in YAML, too.
            let _ = writeln!(
                text,
                "    cacert: {}",
                serde_json::Value::from(cacert.to_string_lossy())
            );
        }
    }
    text
}

/// How to use the region: `clouds` is the file for clients, `took` how long it took to start.
pub(crate) fn banner(served: &Served, clouds: &Path, took: Duration) -> String {
    let region = served.running.cloud.region();
    let mut text = String::new();
    let _ = writeln!(
        text,
        "Adit region {} is ready ({} ms).\n",
        region.name,
        took.as_millis()
    );
    let _ = writeln!(
        text,
        "  API       {}   (described at {}/openapi.json)",
        served.api, served.api
    );
    if let Some(cacert) = &served.cacert {
        let _ = writeln!(
            text,
            "  Trust     {}   (the region's own certificate)",
            cacert.display()
        );
    }
    if let Some(metrics) = &served.metrics {
        let _ = writeln!(text, "  Metrics   {metrics}");
    }
    if let Some(nodes) = &served.nodes {
        let secret = nodes
            .token_file
            .as_ref()
            .map(|file| format!("secret: {}", file.display()));
        let certificate = nodes.certificates.then(|| "a certificate of theirs".to_owned());
        let wanted: Vec<_> = secret.into_iter().chain(certificate).collect();
        let _ = writeln!(text, "  Nodes     {}   ({})", nodes.url, wanted.join(", and "));
    }
    let _ = writeln!(text, "  Data      {}", served.data.path().display());
    let _ = writeln!(text, "  Networks  {}\n", served.networks.describe());
    text.push_str(&logins(&region.logins()));
    let _ = writeln!(
        text,
        "\nWith the openstack command (python-openstackclient, otcextensions):"
    );
    let _ = writeln!(
        text,
        "  export OS_CLIENT_CONFIG_FILE={} OS_CLOUD=demo",
        quoted(clouds)
    );
    let _ = writeln!(text, "  openstack vpcep service list");
    if let Some(login) = region.logins().into_iter().next() {
        let _ = write!(text, "\n{}", curl(served, &login));
    }
    let data = match served.data.path() {
        path if path == default_path() => String::new(),
        path => format!("--data {} ", quoted(path)),
    };
    if served.networks.are_there() {
        let _ = writeln!(
            text,
            "\nA backend for it, from another terminal:\n  adit exec {data}--port {PORT} -- python3 -m http.server 80"
        );
    }
    text
}

/// Who can log in, as a table that is as wide as what is in it.
fn logins(logins: &[adit_cloud::Login]) -> String {
    let heading = ["user", "password", "domain", "project", "project id"];
    let rows = logins
        .iter()
        .map(|l| [&l.user, &l.password, &l.domain, &l.project, l.project_id.as_str()]);
    let rows: Vec<[&str; 5]> = std::iter::once(heading).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..heading.len() - 1).filter_map(width).collect();
    let mut text = String::new();
    for row in &rows {
        text.push_str("  ");
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(text, "{cell:<width$}  ");
        }
        let _ = writeln!(text, "{}", row[heading.len() - 1]);
    }
    text
}

/// The backend's port in the built-in region.
const PORT: &str = "4189d3c2-8882-4871-a3c2-d380272eed88";
/// Its VPC.
const VPC: &str = "4189d3c2-8882-4871-a3c2-d380272eed80";

fn curl(served: &Served, login: &adit_cloud::Login) -> String {
    let api = &served.api;
    let trust = served
        .cacert
        .as_ref()
        .map(|path| format!(" --cacert {}", quoted(path)));
    let trust = trust.unwrap_or_default();
    let token = format!(
        r#"{{"auth":{{"identity":{{"methods":["password"],"password":{{"user":{{"name":"{}","password":"{}","domain":{{"name":"{}"}}}}}}}},"scope":{{"project":{{"name":"{}","domain":{{"name":"{}"}}}}}}}}}}"#,
        login.user, login.password, login.domain, login.project, login.domain
    );
    let service = format!(
        r#"{{"port_id":"{PORT}","vpc_id":"{VPC}","approval_enabled":false,"service_type":"interface","server_type":"VM","ports":[{{"client_port":8080,"server_port":90,"protocol":"TCP"}},{{"client_port":8081,"server_port":80,"protocol":"TCP"}}]}}"#
    );
    format!(
        "Publish a service (the API document's own example):\n  \
         TOKEN=$(curl{trust} -si {api}/v3/auth/tokens -H 'Content-Type: application/json' -d '{token}' \\\n    \
         | tr -d '\\r' | awk 'tolower($1)==\"x-subject-token:\" {{print $2}}')\n  \
         curl{trust} -s {api}/v1/{project}/vpc-endpoint-services -H \"X-Auth-Token: $TOKEN\" -H 'Content-Type: application/json' \\\n    \
         -d '{service}'\n",
        project = login.project_id
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_of_the_logins_begin_under_their_headings() {
        let logins = adit_cloud::Region::embedded().logins();
        let table = super::logins(&logins);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 1 + logins.len());
        for (heading, cell) in [
            ("password", "operator-password"),
            ("domain", "operator-domain"),
            ("project id", "80bf1f73f33460afa6bafe0ab6b45c2f"),
        ] {
            let operator = lines.iter().find(|line| line.contains(cell)).unwrap();
            assert_eq!(lines[0].find(heading), operator.find(cell), "{table}");
        }
    }
}
