//! The state machine of an endpoint, which is also its connection's (spec A.10, A.16, semantics 7).

use std::net::Ipv4Addr;

use adit_model::{
    ApiError, Code,
    endpoint::{Endpoint, EndpointStatus, Leg},
    service::{Fault, ServiceStatus},
};
use proptest::prelude::*;

use crate::sample::{at, endpoint, endpoint_place, endpoint_request, fault, service};

/// What can happen to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The owner of the service accepts.
    Receive,
    /// The owner of the service rejects.
    Reject,
    /// The gateway listens.
    Accept,
    Fail,
    /// Its service is being deleted.
    Orphan,
    Delete,
}

const STEPS: [Step; 6] = [
    Step::Receive,
    Step::Reject,
    Step::Accept,
    Step::Fail,
    Step::Orphan,
    Step::Delete,
];

/// Every way from one state into another.
const EDGES: [(EndpointStatus, Step, EndpointStatus); 14] = {
    use EndpointStatus::{Accepted, Creating, Deleting, Failed, PendingAcceptance, Rejected};
    [
        // `receive` passes through `creating`: `accepted` is said once the endpoint answers.
        (PendingAcceptance, Step::Receive, Creating),
        (Rejected, Step::Receive, Creating),
        (PendingAcceptance, Step::Reject, Rejected),
        (Accepted, Step::Reject, Rejected),
        (Creating, Step::Accept, Accepted),
        (Creating, Step::Fail, Failed),
        (Accepted, Step::Fail, Failed),
        // The service is deleted (spec A.8, semantics 21, row 8).
        (PendingAcceptance, Step::Orphan, Failed),
        (Rejected, Step::Orphan, Failed),
        (PendingAcceptance, Step::Delete, Deleting),
        (Creating, Step::Delete, Deleting),
        (Accepted, Step::Delete, Deleting),
        (Rejected, Step::Delete, Deleting),
        (Failed, Step::Delete, Deleting),
    ]
};

const SERVICE_NAME: &str = "eu-de.renamed.00000000-0000-0000-0000-000000000003";

/// What a step that is no edge answers.
fn refusal(status: EndpointStatus, step: Step) -> Option<Code> {
    match (step, status) {
        (Step::Receive | Step::Reject, EndpointStatus::Creating) => Some(Code::E2019),
        (Step::Receive | Step::Reject, EndpointStatus::Deleting) => Some(Code::E2018),
        (Step::Receive | Step::Reject, EndpointStatus::Failed) => Some(Code::E2047),
        _ => None,
    }
}

/// The fault of an endpoint whose service is gone.
fn orphaned() -> Fault {
    ApiError::because(Code::E2003, format!("{SERVICE_NAME} was deleted by its owner.")).into()
}

fn take(endpoint: &mut Endpoint, step: Step, now: i64) -> Result<bool, Code> {
    let result = match step {
        Step::Receive => endpoint.receive(at(now)),
        Step::Reject => endpoint.reject(at(now)),
        Step::Accept => Ok(endpoint.accept(at(now))),
        Step::Fail => Ok(endpoint.fail(fault(), at(now))),
        Step::Orphan => Ok(endpoint.orphan(SERVICE_NAME, at(now))),
        Step::Delete => Ok(endpoint.delete(at(now))),
    };
    result.map_err(|e| {
        assert!(
            e.message.contains(&endpoint.id.to_string()),
            "{e} names no endpoint"
        );
        assert!(
            e.message.contains(endpoint.status().as_str()),
            "{e} names no state"
        );
        e.code
    })
}

/// Takes the step and holds what came of it against the table of edges.
fn check(endpoint: &mut Endpoint, step: Step, now: i64) {
    let before = endpoint.clone();
    let edge = EDGES
        .iter()
        .find(|(from, by, _)| *from == before.status() && *by == step);
    let result = take(endpoint, step, now);
    if let Some((_, _, to)) = edge {
        assert_eq!(result, Ok(true), "{before:?} by {step:?}");
        assert_eq!(endpoint.status(), *to);
        assert_eq!(endpoint.updated_at, at(now).at_least(before.updated_at));
    } else if (before.status(), step) == (EndpointStatus::Failed, Step::Orphan) {
        // It stays failed, for another reason; once.
        assert_eq!(result, Ok(before.fault() != Some(&orphaned())));
        assert_eq!(endpoint.status(), EndpointStatus::Failed);
    } else {
        let expected = refusal(before.status(), step).map_or(Ok(false), Err);
        assert_eq!(result, expected, "{before:?} by {step:?}");
        assert_eq!(*endpoint, before, "what is refused changes nothing");
    }
    if step == Step::Orphan && endpoint.status() == EndpointStatus::Failed {
        assert_eq!(endpoint.fault(), Some(&orphaned()));
        assert_eq!(&*endpoint.service_name, SERVICE_NAME);
    }
    check_invariants(endpoint);
}

fn check_invariants(endpoint: &Endpoint) {
    let status = endpoint.status();
    assert_eq!(endpoint.fault().is_some(), status == EndpointStatus::Failed);
    assert_eq!(
        endpoint.is_live(),
        matches!(status, EndpointStatus::Creating | EndpointStatus::Accepted)
    );
    assert!(endpoint.updated_at >= endpoint.created.at);
}

#[test]
fn approval_decides_the_first_state() {
    let mut service = service(ServiceStatus::Available);
    for (approval, status) in [
        (true, EndpointStatus::PendingAcceptance),
        (false, EndpointStatus::Creating),
    ] {
        service.approval_enabled = approval;
        let new = Endpoint::new(endpoint_request(), &service, endpoint_place());
        assert_eq!(new.status(), status);
        assert_eq!(new.updated_at, new.created.at);
        assert_eq!(
            new.shown_ip(),
            None,
            "an address that the caller chose is not shown before it answers"
        );
        check_invariants(&new);
    }
}

#[test]
fn every_step_in_every_state_follows_the_table() {
    for status in EndpointStatus::ALL {
        for step in STEPS {
            check(&mut endpoint(*status), step, 5000);
        }
    }
}

/// The address that an endpoint holds, shown or not.
fn held(endpoint: &Endpoint) -> Option<Ipv4Addr> {
    endpoint.interface().and_then(|leg| leg.ip)
}

fn set_ip(leg: &mut Leg, ip: Option<Ipv4Addr>) {
    if let Leg::Interface(leg) = leg {
        leg.ip = ip;
    }
}

#[test]
fn rejected_keeps_the_address_only_if_it_was_accepted() {
    let mut never = endpoint(EndpointStatus::Rejected);
    assert_eq!((never.shown_ip(), held(&never).is_some()), (None, true));
    let mut once = endpoint(EndpointStatus::Accepted);
    let ip = once.shown_ip();
    assert!(ip.is_some());
    once.reject(at(1200)).unwrap();
    assert_eq!(once.shown_ip(), ip);
    // Received again, neither shows one until it answers.
    for endpoint in [&mut never, &mut once] {
        endpoint.receive(at(1201)).unwrap();
        assert_eq!(endpoint.shown_ip(), None);
        endpoint.accept(at(1202));
        assert_eq!(endpoint.shown_ip(), ip);
    }
}

proptest! {
    #[test]
    fn no_sequence_of_steps_leaves_the_table(
        approval: bool,
        // The clock may go back; `None` gives the endpoint its address, which convergence may do at any time.
        steps in prop::collection::vec(
            (prop::option::weighted(0.9, prop::sample::select(&STEPS[..])), 900i64..1300),
            0..24,
        ),
    ) {
        let mut service = service(ServiceStatus::Available);
        service.approval_enabled = approval;
        let mut request = endpoint_request();
        set_ip(&mut request.leg, None);
        let mut endpoint = Endpoint::new(request, &service, endpoint_place());
        let mut accepted_once = false;
        for (step, now) in steps {
            let before = endpoint.clone();
            match step {
                Some(step) => check(&mut endpoint, step, now),
                None => set_ip(&mut endpoint.leg, Some([10, 20, 5, 40].into())),
            }
            accepted_once |= endpoint.status() == EndpointStatus::Accepted;
            let shown = match endpoint.status() {
                EndpointStatus::Accepted => held(&endpoint),
                EndpointStatus::Rejected if accepted_once => held(&endpoint),
                _ => None,
            };
            prop_assert_eq!(endpoint.shown_ip(), shown);
            prop_assert!(endpoint.updated_at >= before.updated_at);
            if before.status() == EndpointStatus::Deleting && step.is_some() {
                prop_assert_eq!(endpoint.clone(), before, "deletion is final");
            }
        }
    }
}
