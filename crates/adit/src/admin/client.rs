//! The operator's HTTP client: a token, and JSON both ways.

use std::{fs, io, path::Path, sync::Arc, time::Duration};

use serde_json::{Value, json};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use super::{
    Error,
    access::{Access, Auth, origin},
    order::Order,
};

/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How many entries of a list are asked for at a time: the API's largest page.
const PAGE: usize = 1000;

/// Somebody who is logged in.
pub(super) struct Client {
    agent: ureq::Agent,
    /// Where the API is.
    url: String,
    token: String,
}

/// A reply: its status, and its body, which is null where it has none.
type Reply = (u16, Value, Option<String>);

impl Client {
    pub(super) fn login(access: Access) -> Result<Self, Error> {
        let agent = agent(access.cacert.as_deref(), access.verify)?;
        let (token, catalog) = match access.auth {
            Auth::Token(token) => (token, Value::Null),
            Auth::Password {
                auth_url,
                user,
                request,
            } => {
                let url = format!("{auth_url}/auth/tokens");
                let (status, body, token) = send(&agent, "POST", &url, None, Some(&request))?;
                let refused = || Error::Login {
                    user,
                    url: url.clone(),
                    why: reason(status, &body),
                };
                (token.ok_or_else(refused)?, body)
            }
        };
        let url = access
            .url
            .or_else(|| vpcep(&catalog, access.region.as_deref()))
            .ok_or(Error::NoUrl)?;
        Ok(Self { agent, url, token })
    }

    /// Does as ordered: of a list, all of it, or as much as was asked for.
    pub(super) fn perform(&self, order: &Order) -> Result<Value, Error> {
        let super::view::View::List { key, .. } = order.view else {
            return self.call(order, &order.query);
        };
        let limit = order.limit.unwrap_or(usize::MAX);
        let (mut entries, mut total) = (Vec::new(), Value::Null);
        while entries.len() < limit {
            let mut query = order.query.clone();
            query.push(("limit", PAGE.min(limit - entries.len()).to_string()));
            query.push(("offset", entries.len().to_string()));
            let mut page = self.call(order, &query)?;
            total = page["total_count"].take();
            let Value::Array(more) = page[key].take() else {
                break;
            };
            let done = more.is_empty();
            entries.extend(more);
            if done || total.as_u64().is_none_or(|total| entries.len() as u64 >= total) {
                break;
            }
        }
        Ok(json!({key: entries, "total_count": total}))
    }

    fn call(&self, order: &Order, query: &[(&str, String)]) -> Result<Value, Error> {
        let mut url = format!("{}/admin/v1/{}", self.url, order.path);
        for (i, (name, value)) in query.iter().enumerate() {
            url.push(if i == 0 { '?' } else { '&' });
            url.push_str(&format!("{name}={}", super::order::part(value)));
        }
        let (status, body, _) = send(
            &self.agent,
            order.method,
            &url,
            Some(&self.token),
            order.body.as_ref(),
        )?;
        if (200..300).contains(&status) {
            return Ok(body);
        }
        Err(Error::Refused {
            status,
            code: body["error_code"].as_str().unwrap_or_default().to_owned(),
            why: reason(status, &body),
            url: self.url.clone(),
        })
    }
}

/// An HTTP client that trusts the certificates in a file, or those that are commonly trusted; without `verify`, any.
///
/// # Errors
/// Where the file has none.
pub(crate) fn agent(cacert: Option<&Path>, verify: bool) -> Result<ureq::Agent, Error> {
    let mut tls = TlsConfig::builder().disable_verification(!verify);
    if let Some(file) = cacert {
        let unreadable = |source| Error::Certificates {
            file: file.to_owned(),
            source,
        };
        let pem = fs::read(file).map_err(unreadable)?;
        let mut certificates: Vec<Certificate<'static>> = Vec::new();
        for item in parse_pem(&pem) {
            if let PemItem::Certificate(certificate) = item.map_err(|e| unreadable(io::Error::other(e)))? {
                certificates.push(certificate);
            }
        }
        if certificates.is_empty() {
            return Err(unreadable(io::Error::other("it holds no certificate")));
        }
        tls = tls.root_certs(RootCerts::Specific(Arc::new(certificates)));
    }
    Ok(ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(REQUEST_TIMEOUT))
        .tls_config(tls.build())
        .build()
        .into())
}

/// What is at a URL: the status, and the text.
///
/// # Errors
/// Where nobody answers.
pub(crate) fn fetch(agent: &ureq::Agent, url: &str) -> Result<(u16, String), Error> {
    let unreachable = |source: ureq::Error| Error::Unreachable {
        url: url.to_owned(),
        source: Box::new(source),
    };
    let mut reply = agent.get(url).call().map_err(unreachable)?;
    let text = reply.body_mut().read_to_string().map_err(unreachable)?;
    Ok((reply.status().as_u16(), text))
}

fn send(
    agent: &ureq::Agent,
    method: &str,
    url: &str,
    token: Option<&str>,
    body: Option<&Value>,
) -> Result<Reply, Error> {
    let unreachable = |source: ureq::Error| Error::Unreachable {
        url: url.split('?').next().unwrap_or(url).to_owned(),
        source: Box::new(source),
    };
    let builder = ureq::http::Request::builder().method(method).uri(url);
    let builder = match token {
        Some(token) => builder.header("x-auth-token", token),
        None => builder,
    };
    let reply = match body {
        Some(body) => {
            let request = builder
                .header("content-type", "application/json")
                .body(body.to_string());
            agent.run(request.map_err(|e| unreachable(e.into()))?)
        }
        None => agent.run(builder.body(()).map_err(|e| unreachable(e.into()))?),
    };
    let mut reply = reply.map_err(unreachable)?;
    let text = reply.body_mut().read_to_string().map_err(unreachable)?;
    let issued = reply
        .headers()
        .get("x-subject-token")
        .and_then(|t| t.to_str().ok());
    let issued = issued.map(str::to_owned);
    let json = serde_json::from_str(&text).unwrap_or(Value::Null);
    Ok((reply.status().as_u16(), json, issued))
}

/// What a refusal says: Adit's own words or Keystone's, else its status.
fn reason(status: u16, body: &Value) -> String {
    let said = body["error_msg"]
        .as_str()
        .or(body.pointer("/error/message").and_then(Value::as_str));
    match said {
        Some(said) => said.to_owned(),
        None => format!("HTTP status {status}"),
    }
}

/// Where VPCEP is, by a token's catalog.
fn vpcep(token: &Value, region: Option<&str>) -> Option<String> {
    let catalog = token.pointer("/token/catalog")?.as_array()?;
    let service = catalog.iter().find(|service| service["type"] == "vpcep")?;
    let mut endpoints = service["endpoints"].as_array()?.iter();
    let found = endpoints.find(|endpoint| {
        let here = |region: &str| endpoint["region"] == region || endpoint["region_id"] == region;
        endpoint["interface"] == "public" && region.is_none_or(here)
    })?;
    origin(found["url"].as_str()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalog_says_where_the_api_is() {
        let endpoint = |region: &str, url: &str| json!({"interface": "public", "region": region, "url": url});
        let token = json!({"token": {"catalog": [
            {"type": "identity", "endpoints": [endpoint("eu-de", "https://iam.test/v3")]},
            {"type": "vpcep", "endpoints": [
                endpoint("eu-nl", "https://nl.test/v1/p"), endpoint("eu-de", "https://de.test:8443/v1/p")]},
        ]}});
        let at = |region| vpcep(&token, region);
        assert_eq!(at(Some("eu-de")).as_deref(), Some("https://de.test:8443"));
        assert_eq!(at(None).as_deref(), Some("https://nl.test"));
        assert_eq!(at(Some("eu-fr")), None);
        assert_eq!(vpcep(&Value::Null, None), None);
    }
}
