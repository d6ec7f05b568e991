use serde_json::json;

use super::*;

fn facts() -> Facts {
    let mapping = |client_port, server_port| {
        serde_json::from_value(
            json!({"client_port": client_port, "server_port": server_port, "protocol": "TCP"}),
        )
        .unwrap()
    };
    Facts {
        id: EndpointId::random(),
        status: EndpointStatus::Accepted,
        fault: None,
        domain: "d1".parse().unwrap(),
        frozen: Vec::new(),
        disabled: false,
        allowed: None,
        service: Some(ServiceFacts {
            id: ServiceId::random(),
            status: ServiceStatus::Available,
            fault: None,
            ports: vec![mapping(7000, 80), mapping(7001, 81)],
            tcp_proxy: TcpProxy::ProxyOpen,
        }),
        told: true,
        away: None,
        waiting: None,
        examined: Some(Examination::Found(found())),
    }
}

fn found() -> Findings {
    Findings {
        missing_namespaces: Vec::new(),
        obstacle: None,
        address: true,
        listening: true,
        connections: 2_999,
        connections_max: 3_000,
        backends: [10, 11]
            .map(|n| BackendFound {
                address: SocketAddrV4::new([10, 0, 0, n].into(), 80),
                source: [198, 19, 128, 7].into(),
                route_fault: None,
                fault: None,
                took_us: 150,
                header: Some(true),
            })
            .into(),
    }
}

/// What stands in the way in these circumstances: the step, what is seen of it, and that something is to be done.
#[track_caller]
fn fails_at(change: impl FnOnce(&mut Facts), expected: StepName, seen: &str) {
    fails(change, Question::default(), expected, seen);
}

#[track_caller]
fn fails(change: impl FnOnce(&mut Facts), question: Question, expected: StepName, seen: &str) {
    let mut facts = facts();
    change(&mut facts);
    let steps = diagnose(&facts, question);
    let (last, before) = steps.split_last().unwrap();
    assert_eq!(
        (last.step, last.verdict),
        (expected, Verdict::Failed),
        "{steps:?}"
    );
    assert!(last.seen.contains(seen), "{seen:?} is not in {:?}", last.seen);
    let remedy = last.remedy.as_deref().unwrap();
    assert!(remedy.ends_with('.'), "{remedy}");
    assert!(!is_healthy(&steps));
    // What comes before holds, and nothing is left out.
    let names: Vec<_> = steps.iter().map(|step| step.step).collect();
    assert_eq!(names, StepName::ALL[..names.len()]);
    assert!(
        before
            .iter()
            .all(|s| s.verdict != Verdict::Failed && s.remedy.is_none())
    );
}

fn in_found(change: impl FnOnce(&mut Findings)) -> impl FnOnce(&mut Facts) {
    move |facts| {
        let mut found = found();
        change(&mut found);
        facts.examined = Some(Examination::Found(found));
    }
}

#[test]
fn a_healthy_endpoint_passes_every_step() {
    let steps = diagnose(&facts(), Question::default());
    assert_eq!(steps.len(), StepName::ALL.len());
    assert!(
        steps.iter().all(|step| step.verdict == Verdict::Passed),
        "{steps:?}"
    );
    assert!(is_healthy(&steps));
    // Whether it is healthy is not known before the gateway has looked.
    let steps = diagnose(
        &Facts {
            examined: None,
            ..facts()
        },
        Question::default(),
    );
    assert_eq!(steps.last().unwrap().step, StepName::Port);
}

#[test]
fn what_the_documents_say_comes_first() {
    use StepName::{Acceptance, Account, Port, Service, State, Switch, Whitelist};
    let service = |facts: &mut Facts, status, fault: Option<&str>| {
        let service = facts.service.as_mut().unwrap();
        (service.status, service.fault) = (status, fault.map(str::to_owned));
    };
    fails_at(
        |f| (f.status, f.fault) = (EndpointStatus::Failed, Some("no such subnet".into())),
        State,
        "no such subnet",
    );
    fails_at(|f| f.status = EndpointStatus::Deleting, State, "deleting");
    fails_at(|f| f.service = None, Service, "gone");
    fails_at(
        |f| service(f, ServiceStatus::Failed, Some("no TOA")),
        Service,
        "no TOA",
    );
    fails_at(|f| service(f, ServiceStatus::Creating, None), Service, "creating");
    fails_at(|f| service(f, ServiceStatus::Deleting, None), Service, "deleting");
    fails_at(
        |f| f.frozen = vec!["arrear_frozen", "police_frozen"],
        Account,
        "arrear_frozen, police_frozen",
    );
    fails_at(|f| f.disabled = true, Switch, "switched it off");
    fails_at(
        |f| f.status = EndpointStatus::PendingAcceptance,
        Acceptance,
        "waits",
    );
    fails_at(|f| f.status = EndpointStatus::Rejected, Acceptance, "rejected");
    fails_at(|f| f.allowed = Some(Vec::new()), Whitelist, "nobody");
    let of = |client: [u8; 4]| Question {
        client: Some(client.into()),
        ..Question::default()
    };
    let one = |f: &mut Facts| f.allowed = Some(vec!["10.0.0.20/32".parse().unwrap()]);
    fails(one, of([10, 0, 0, 21]), Whitelist, "not 10.0.0.21");
    for question in [of([10, 0, 0, 20]), Question::default()] {
        let mut facts = facts();
        one(&mut facts);
        assert!(is_healthy(&diagnose(&facts, question)));
    }
    let question = Question {
        port: Some(80),
        client: None,
    };
    fails(|_| {}, question, Port, "80 is not mapped; these are: 7000, 7001");
    fails_at(|f| f.service.as_mut().unwrap().ports.clear(), Port, "no port");
}

#[test]
fn what_the_gateway_found_comes_in_the_order_of_its_causes() {
    use StepName::{Backend, Gateway, Header, Limit, Listener, Namespace, Route};
    fails_at(|f| f.told = false, Gateway, "told");
    let away = |f: &mut Facts| (f.told, f.away) = (false, Some("gateway one is away".to_owned()));
    fails_at(away, Gateway, "gateway one is away");
    for (examined, seen) in [
        (Examination::Silence, "answered"),
        (Examination::NoNetworks, "control plane alone"),
        (Examination::Unknown, "knows nothing"),
    ] {
        fails_at(|f| f.examined = Some(examined), Gateway, seen);
    }
    fails_at(
        in_found(|f| f.missing_namespaces = vec!["ax-v".into()]),
        Namespace,
        "ax-v",
    );
    fails_at(
        in_found(|f| f.obstacle = Some("no link".into())),
        Listener,
        "no link",
    );
    fails_at(in_found(|f| f.address = false), Listener, "address");
    let waits = |f: &mut Facts| {
        in_found(|f| f.listening = false)(f);
        f.waiting = Some("still held".into());
    };
    fails_at(waits, Listener, "nothing listens on the port: still held");
    fails_at(
        in_found(|f| f.connections = 3_000),
        Limit,
        "3000 connections of 3000",
    );
    // Any of several backends counts.
    let second = |change: fn(&mut BackendFound)| in_found(move |f| change(&mut f.backends[1]));
    for end in ["source_missing", "backend_unreachable"] {
        let seen = format!("10.0.0.11:80 ({end})");
        let change = in_found(|f| f.backends[1].route_fault = Some(end.into()));
        fails_at(change, Route, &seen);
    }
    for end in [
        "backend_refused",
        "backend_timeout",
        "backend_unreachable",
        "backend_reset",
        "source_ports_exhausted",
        "namespace_gone",
        "out_of_descriptors",
        "failed",
    ] {
        let change = in_found(|f| f.backends[1].fault = Some(end.into()));
        fails_at(change, Backend, end);
    }
    fails_at(second(|b| b.header = Some(false)), Header, "10.0.0.11:80 took");
    fails_at(second(|b| b.header = None), Header, "10.0.0.11:80 took");
}

#[test]
fn what_does_not_matter_is_skipped() {
    let mut facts = facts();
    facts.service.as_mut().unwrap().tcp_proxy = TcpProxy::ToaOpen;
    let skipped = |facts: &Facts| {
        let steps = diagnose(facts, Question::default());
        assert!(
            is_healthy(&steps) && steps.len() == StepName::ALL.len(),
            "{steps:?}"
        );
        let skipped = steps.iter().filter(|step| step.verdict == Verdict::Skipped);
        skipped.map(|step| step.step).collect::<Vec<_>>()
    };
    assert_eq!(skipped(&facts), [StepName::Header]);
    in_found(|f| f.backends.clear())(&mut facts);
    assert_eq!(
        skipped(&facts),
        [StepName::Route, StepName::Backend, StepName::Header]
    );
}

#[test]
fn questions_are_read() {
    let parse = |body: serde_json::Value| Question::parse(body.as_object().unwrap());
    assert_eq!(parse(json!({})), Ok(Question::default()));
    assert_eq!(
        parse(json!({"port": null, "client": null})),
        Ok(Question::default())
    );
    let question = Question {
        port: Some(65_535),
        client: Some([10, 0, 0, 1].into()),
    };
    assert_eq!(parse(json!({"port": 65535, "client": "10.0.0.1"})), Ok(question));
    for (body, named) in [
        (json!({"port": 0}), "port: 0 "),
        (json!({"port": 65536}), "65536"),
        (json!({"port": "80"}), "port: \"80\""),
        (json!({"port": 1.5}), "1.5"),
        (json!({"client": "10.0.0"}), "client: \"10.0.0\""),
        (json!({"client": "::1"}), "::1"),
        (json!({"client": 7}), "client: 7"),
    ] {
        let error = parse(body.clone()).unwrap_err();
        assert_eq!(error.code, Code::E0002, "{body}");
        assert!(error.message.contains(named), "{}", error.message);
    }
}

#[test]
fn findings_travel_as_they_are() {
    for examined in [
        Examination::Silence,
        Examination::NoNetworks,
        Examination::Unknown,
        Examination::Found(found()),
    ] {
        let text = serde_json::to_string(&examined).unwrap();
        assert_eq!(
            serde_json::from_str::<Examination>(&text).unwrap(),
            examined,
            "{text}"
        );
    }
}
