//! The service catalog: where clients find which API. One host serves them all.

use adit_model::id::ProjectId;
use adit_server::edge::Origin;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::region::Region;

/// The region's address, without a slash at its end: the one that it is to be reached at, else that the client came to.
pub(crate) fn base_url(region: &Region, Origin(origin): Origin) -> String {
    match &region.public_url {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => origin,
    }
}

/// The catalog for a project; without one, only the identity service can be used.
pub(crate) fn catalog(region: &Region, base: &str, project: Option<&ProjectId>) -> Value {
    // The forms of these addresses are what clients take apart: each strips and appends in its own way.
    let mut services = vec![("identity", "keystone", format!("{base}/v3"))];
    if let Some(project) = project {
        services.push(("network", "neutron", base.to_owned()));
        services.push(("vpc", "vpc", format!("{base}/v1/{project}")));
        services.push(("vpcep", "vpcep", format!("{base}/v1/{project}")));
        services.push(("elb", "elb", format!("{base}/v1.0")));
        services.push(("elbv3", "elbv3", format!("{base}/v3/{project}")));
    }
    let entry = |(kind, name, url): (&str, &str, String)| {
        json!({
            "type": kind,
            "name": name,
            "id": stable_id(&format!("service/{kind}")),
            "endpoints": [{
                "id": stable_id(&format!("endpoint/{kind}")),
                "interface": "public",
                "region": region.name,
                "region_id": region.name,
                "url": url,
            }],
        })
    };
    services.into_iter().map(entry).collect()
}

/// An id of 32 hexadecimal digits that is the same at every start.
pub(crate) fn stable_id(name: &str) -> String {
    Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes())
        .simple()
        .to_string()
}
