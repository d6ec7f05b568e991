//! The API's versions over HTTP (spec A.1, A.2); open to everybody.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;

use super::shape::Failures;
use crate::{app::App, edge::Origin};

/// A version of an API.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Version {
    id: &'static str,
    version: &'static str,
    /// Empty: there are no microversions.
    min_version: &'static str,
    status: &'static str,
    #[schema(format = DateTime)]
    updated: &'static str,
    links: [Link; 1],
}

/// Where a version is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Link {
    href: String,
    #[serde(rename = "type")]
    kind: &'static str,
    rel: &'static str,
}

/// Every version.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Versions {
    versions: Vec<Version>,
}

/// One version.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OneVersion {
    version: Version,
}

/// A version, with a link that leads to where the client came to.
fn version(id: &'static str, Origin(origin): &Origin) -> Version {
    let (version, status, updated) = match id {
        "v1" => ("1", "SUPPORT", "2018-09-30T00:00:00Z"),
        "v2" => ("2", "CURRENT", "2020-03-30T00:00:00Z"),
        _ => ("3.14", "stable", "2020-04-07T00:00:00Z"),
    };
    let path = if id == "v3.14" { "v3/" } else { id };
    let href = format!("{origin}/{path}");
    Version {
        id,
        version,
        min_version: "",
        status,
        updated,
        links: [Link {
            href,
            kind: "application/json",
            rel: "self",
        }],
    }
}

/// List the versions
#[utoipa::path(get, path = "/", tag = "Versions", security(()), responses((status = 200, description = "Done; the body says what is.", body = Versions), Failures))]
pub(crate) async fn version_list(State(app): State<Arc<App>>, origin: Origin) -> Json<Versions> {
    let ids = ["v1", "v2"]
        .into_iter()
        .chain(app.config.embedded_identity.then_some("v3.14"));
    Json(Versions {
        versions: ids.map(|id| version(id, &origin)).collect(),
    })
}

/// Show version 1
#[utoipa::path(get, path = "/v1", tag = "Versions", security(()), responses((status = 200, description = "Done; the body says what is.", body = OneVersion), Failures))]
pub(crate) async fn version_1(origin: Origin) -> Json<OneVersion> {
    Json(OneVersion {
        version: version("v1", &origin),
    })
}

/// Show version 2, which is listed and not served
#[utoipa::path(get, path = "/v2", tag = "Versions", security(()), responses((status = 200, description = "Done; the body says what is.", body = OneVersion), Failures))]
pub(crate) async fn version_2(origin: Origin) -> Json<OneVersion> {
    Json(OneVersion {
        version: version("v2", &origin),
    })
}
