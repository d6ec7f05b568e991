//! What the check of a store finds: nothing in a sound one, and each damage by its key.

use std::{collections::BTreeSet, sync::Arc};

use adit_model::{
    id::{EndpointId, PoolId, PortId, ServiceId, SubnetId, VpcId},
    placement::Placement,
    service::Service,
};
use adit_store::{
    Entry, Key, Revision,
    check::{Finding, check},
    keys::{decode, encode},
};
use serde_json::{Value, json};

use crate::{
    agreement::{agrees, entries},
    app::{ENDPOINTS, OTHER_SUBNET, TestApp, endpoint_body, text},
    gateway_endpoint::{gateway_body, gateway_endpoint},
};

/// The entries of a region that has one of everything.
async fn furnished() -> Vec<Entry> {
    let app = TestApp::start().await;
    let service = app.service(80, true).await;
    let mut body = endpoint_body(&service);
    body["port_ip"] = json!("10.0.0.77");
    let waiting = text(&app.other.post(ENDPOINTS, &body).await.ok()["id"]);
    let open = app.service(81, false).await;
    app.endpoint(&open, "accepted").await;
    gateway_endpoint(&app.other, &gateway_body(&[]), "accepted").await;
    assert_eq!(app.decide(&service, "reject", &waiting).await.status, 200);
    agrees(&app.running.app).await;
    entries(&app.running.app).await
}

/// The first word of a key.
fn kind(entry: &Entry) -> &str {
    entry.key.split('/').next().unwrap()
}

fn planted(key: &Key, value: Arc<[u8]>) -> Entry {
    Entry {
        key: key.to_string().into(),
        value,
        mod_revision: Revision(1),
        create_revision: Revision(1),
        lease: None,
    }
}

#[tokio::test]
async fn each_damage_is_found_and_named() {
    let sound = furnished().await;
    assert_eq!(check(&sound), []);
    for (n, entry) in sound.iter().enumerate() {
        let mut without = sound.clone();
        without.remove(n);
        // Nothing else in the store says that these have to be there.
        let alone = ["whitelist", "limits", "account", "pool", "loadbalancer", "vpc"];
        let is_ours = Key::parse(&entry.key).is_some() || kind(entry) == "vni";
        let findings = check(&without);
        assert!(
            !findings.is_empty() || alone.contains(&kind(entry)) || !is_ours,
            "{} is missing, and nobody misses it",
            entry.key
        );

        let mut broken = sound.clone();
        broken[n].value = (*b"\x01{").into();
        assert!(names(&check(&broken), &entry.key), "{} is not read", entry.key);
        broken[n].value = (*b"\x09null").into();
        let newer = check(&broken);
        let says = newer.iter().any(|f| f.problem.contains("version Some(9)"));
        assert!(says, "{}: {newer:?}", entry.key);
    }
}

fn names(findings: &[Finding], key: &str) -> bool {
    findings.iter().any(|finding| finding.key == key)
}

#[tokio::test]
async fn what_leads_nowhere_is_found_and_named() {
    let sound = furnished().await;
    let project = sound.iter().find_map(|entry| match Key::parse(&entry.key) {
        Some(Key::Quota(project, kind, _)) => Some((project, kind)),
        _ => None,
    });
    let (project, quota) = project.unwrap();
    let subnet: SubnetId = OTHER_SUBNET.parse().unwrap();
    let (service, endpoint, port) = (ServiceId::random(), EndpointId::random(), PortId::random());
    let ip = "10.0.0.99".parse().unwrap();
    let of_sound = |kind: &str| {
        sound
            .iter()
            .find(|entry| entry.key.starts_with(kind))
            .unwrap()
            .value
            .clone()
    };
    let plants = [
        planted(&Key::Whitelist(service), of_sound("whitelist/")),
        planted(&Key::Claims(port), of_sound("claims/")),
        planted(&Key::Service(service), of_sound("service/")),
        planted(&Key::Endpoint(endpoint), of_sound("endpoint/")),
        planted(&Key::Port(port), of_sound("port/")),
        planted(&Key::Service(service).guard(), encode(&())),
        planted(&Key::Subnet(SubnetId::random()).guard(), encode(&())),
        planted(&Key::Vpc(VpcId::random()).guard(), encode(&())),
        planted(&Key::Address(subnet, ip), encode(&json!({"endpoint": endpoint}))),
        planted(&Key::Address(subnet, ip), encode(&json!({"port": port}))),
        planted(&Key::Source(VpcId::random(), ip), encode(&endpoint)),
        planted(
            &Key::Marker(adit_model::id::MarkerId::from_random(7)),
            encode(&endpoint),
        ),
        planted(&Key::Quota(project, quota, 4000), encode(&endpoint)),
        planted(&Key::PublicName("nobody's".to_owned()), encode(&service)),
    ];
    let misspelt = ["service/x", "marker/0", "quota/x", "guard/x/y", "service"].map(|key| Entry {
        key: key.into(),
        ..plants[0].clone()
    });
    for plant in plants.into_iter().chain(misspelt) {
        let key = plant.key.clone();
        let mut with = sound.clone();
        let at = with.partition_point(|entry| entry.key < key);
        with.insert(at, plant);
        let findings = check(&with);
        assert!(names(&findings, &key), "{key}: {findings:?}");
    }
    // A key that is nobody's business here is no fault.
    let mut with = sound.clone();
    let other = Entry {
        key: "zebra/1".into(),
        ..planted(&Key::Service(service), encode(&1))
    };
    with.push(other);
    assert_eq!(check(&with), []);
}

fn place(entries: &[Entry], kind: &str) -> usize {
    entries
        .iter()
        .position(|entry| entry.key.starts_with(kind))
        .unwrap()
}

/// The entries with another value in one field of the first document of a kind, and that one's key.
fn changed(sound: &[Entry], kind: &str, field: &str, value: Value) -> (Arc<str>, Vec<Entry>) {
    let mut with = sound.to_vec();
    let entry = &mut with[place(sound, kind)];
    let mut document: Value = decode(&entry.value).unwrap();
    document[field] = value;
    entry.value = encode(&document);
    (entry.key.clone(), with)
}

/// What a document says of others that no small key repeats.
#[tokio::test]
async fn a_document_that_disagrees_with_another_is_found() {
    let mut sound = furnished().await;
    let (pool, vpc) = (PoolId::random(), VpcId::random());
    for (key, with) in [
        changed(&sound, "endpoint/", "vpc", json!(vpc)),
        changed(&sound, "endpoint/", "vni", json!(7)),
        changed(&sound, "service/", "vpc", json!(vpc)),
    ] {
        let findings = check(&with);
        assert!(names(&findings, &key), "{key}: {findings:?}");
    }

    // Once there was a gateway, the default pool is known, too.
    let service: Service = decode(&sound[place(&sound, "service/")].value).unwrap();
    let gateways = BTreeSet::from(["one".parse().unwrap()]);
    let placement = Placement::default().next(&gateways).unwrap();
    let plant = planted(&Key::Placement(service.pool), encode(&placement));
    let at = sound.partition_point(|entry| entry.key < plant.key);
    sound.insert(at, plant);
    assert_eq!(check(&sound), []);
    for (key, with) in [
        changed(&sound, "endpoint/", "pool", json!(pool)),
        changed(&sound, "service/", "pool", json!(pool)),
        changed(&sound, "placement/", "epoch", json!(0)),
        changed(&sound, "placement/", "slices", json!({"two": 1})),
    ] {
        let findings = check(&with);
        assert!(names(&findings, &key), "{key}: {findings:?}");
    }

    let mut with = sound.clone();
    let slot = place(&with, "quota/");
    let (path, _) = with[slot].key.rsplit_once('/').unwrap();
    with[slot].key = format!("{path}/00").into();
    let findings = check(&with);
    assert!(names(&findings, &with[slot].key), "{findings:?}");
}
