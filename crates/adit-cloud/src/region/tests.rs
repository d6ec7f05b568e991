//! What is a region file, and what is none.

use super::*;

#[test]
fn the_embedded_file_is_sound_and_shows_no_secret() {
    let region = Region::embedded();
    let shown = format!("{region:?}");
    assert!(shown.contains("[secret]"));
    for secret in [
        "demo-password",
        "other-password",
        "viewer-password",
        "operator-password",
        "DEMOSECRETKEY",
    ] {
        assert!(!shown.contains(secret), "{secret}");
    }
}

#[test]
fn an_unknown_key_is_an_error_that_names_its_line() {
    let text = EMBEDDED.replacen("name = \"eu-de\"", "name = \"eu-de\"\nspeling = 1", 1);
    let line = text.lines().position(|l| l.starts_with("speling")).unwrap() + 1;
    let error = Region::parse(&text).unwrap_err();
    let RegionError::Form(cause) = error else {
        panic!("{error}")
    };
    let cause = cause.to_string();
    assert!(
        cause.contains(&format!("line {line}")) && cause.contains("speling"),
        "{cause}"
    );
}

#[test]
fn contradictions_are_named() {
    for (from, to, expected) in [
        ("name = \"eu-de\"\n", "name = \"eu.de\"\n", "the region's name"),
        (
            "id = \"b4e2d3c5f6a7182930b4c5d6e7f8091a\"",
            "id = \"a3f1c2d4e5b60718293a4b5c6d7e8f90\"",
            "occurs twice",
        ),
        (
            "roles = { \"eu-de_other\"",
            "roles = { \"eu-de_demo\"",
            "does not have",
        ),
        (
            "id = \"7fae0e62e2235f9e95a9edf9a5a34b1e\"",
            "id = \"x\"",
            "not the id of a project",
        ),
        ("ip = \"10.0.0.20\"", "ip = \"10.0.0.1\"", "not a free address"),
        ("ip = \"10.0.0.20\"", "ip = \"10.0.1.20\"", "not a free address"),
        (
            "gateway = \"10.0.0.1\"",
            "gateway = \"10.0.0.255\"",
            "the gateway",
        ),
    ] {
        assert!(EMBEDDED.contains(from), "{from}");
        let error = Region::parse(&EMBEDDED.replacen(from, to, 1))
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{from} -> {to}: {error}");
    }
}

#[test]
fn an_account_s_policies_are_read_and_judged() {
    let with = |policies: &str| {
        let text = EMBEDDED.replacen(
            "[[domains.projects]]",
            &format!("{policies}\n[[domains.projects]]"),
            1,
        );
        Region::parse(&text).map_err(|e| adit_model::error_chain(&e))
    };
    let policy = |name: &str, action: &str| {
        format!(
            "[[domains.policies]]\nname = {name:?}\ndocument = {{ Version = \"1.1\", Statement = [\n \
             {{ Effect = \"Deny\", Action = [{action:?}] }} ] }}"
        )
    };
    let region = with(&policy("p", "vpcep:*:delete")).unwrap();
    assert_eq!(region.domains[0].policies[0].name, "p");
    for (policies, expected) in [
        (policy("te_admin", "vpcep:*:*"), "has a system role's name"),
        (
            policy("p", "vpcep:endpoint:delete"),
            "there is no action vpcep:endpoint:delete",
        ),
        (policy("p", "delete"), "\"delete\" is not of the form"),
        (
            policy("p", "vpcep:*:get") + "\n" + &policy("p", "vpcep:*:get"),
            "occurs twice",
        ),
        (
            policy("p", "vpcep:*:get").replace("Effect", "Condition = {}, Effect"),
            "Condition: not supported",
        ),
        (
            policy("p", "vpcep:*:get").replace("1.1", "1.0"),
            "\"1.0\" is not \"1.1\"",
        ),
    ] {
        let error = with(&policies).unwrap_err();
        assert!(error.contains(expected), "{policies}: {error}");
    }
}

#[test]
fn quotas_default_to_the_documented_figures() {
    let text = EMBEDDED.replacen("endpoint_service = 20, endpoint = 50", "endpoint = 7", 1);
    let region = Region::parse(&text).unwrap();
    let quotas: Vec<Limits> = region
        .domains
        .iter()
        .flat_map(|d| &d.projects)
        .map(|p| p.quotas.into())
        .collect();
    assert_eq!(
        quotas[0],
        Limits {
            endpoint_service: 20,
            endpoint: 7
        }
    );
    assert_eq!(quotas[1], Limits::default());
}

#[test]
fn regions_differ_by_what_they_answer() {
    let region = Region::embedded();
    let elsewhere = Region {
        public_url: Some("https://vpcep.example.com".to_owned()),
        ..region.clone()
    };
    assert_eq!(region.digest(), elsewhere.digest());
    let other = Region {
        token_lifetime_s: region.token_lifetime_s + 1,
        ..region.clone()
    };
    assert_ne!(region.digest(), other.digest());
}
