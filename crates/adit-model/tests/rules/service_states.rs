//! The state machine of a service (spec A.8, semantics 6).

use adit_model::{
    Code,
    service::{Fault, Service, ServiceStatus, ServiceUpdate},
};
use proptest::prelude::*;

use crate::sample::{REGION, at, fault, service, service_place, service_request};

/// What can happen to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Build,
    Fail,
    Update,
    /// With so many endpoints in `creating` or `accepted`.
    Delete(usize),
}

const STEPS: [Step; 5] = [
    Step::Build,
    Step::Fail,
    Step::Update,
    Step::Delete(0),
    Step::Delete(2),
];

/// Every way from one state into another.
const EDGES: [(ServiceStatus, Step, ServiceStatus); 5] = {
    use ServiceStatus::{Available, Creating, Deleting, Failed};
    [
        (Creating, Step::Build, Available),
        (Creating, Step::Fail, Failed),
        // A changed tcp_proxy that no gateway can do.
        (Available, Step::Fail, Failed),
        (Available, Step::Delete(0), Deleting),
        (Failed, Step::Delete(0), Deleting),
    ]
};

/// What a step that is no edge answers.
fn refusal(status: ServiceStatus, step: Step) -> Option<Code> {
    match (status, step) {
        (ServiceStatus::Available, Step::Update) => None,
        (_, Step::Update) => Some(Code::E3045),
        (ServiceStatus::Creating, Step::Delete(_)) => Some(Code::E3005),
        (ServiceStatus::Available | ServiceStatus::Failed, Step::Delete(1..)) => Some(Code::E3006),
        _ => None,
    }
}

/// Takes the step at `now`; answers whether the service says that it changed its state, or its refusal.
fn take(service: &mut Service, step: Step, now: i64) -> Result<bool, Code> {
    let result = match step {
        Step::Build => Ok(service.build(at(now))),
        Step::Fail => Ok(service.fail(fault(), at(now))),
        Step::Delete(live) => service.delete(live, at(now)),
        Step::Update => {
            let update = ServiceUpdate {
                description: Some(format!("changed at {now}")),
                ..ServiceUpdate::default()
            };
            service.update(update, REGION, at(now)).map(|()| false)
        }
    };
    result.map_err(|e| {
        assert!(
            e.message.contains(&service.id.to_string()),
            "{e} names no service"
        );
        e.code
    })
}

/// Takes the step and holds what came of it against the table of edges.
fn check(service: &mut Service, step: Step, now: i64) {
    let before = service.clone();
    let edge = EDGES
        .iter()
        .find(|(from, by, _)| *from == before.status() && *by == step);
    let result = take(service, step, now);
    match edge {
        Some((_, _, to)) => {
            assert_eq!(result, Ok(true), "{before:?} by {step:?}");
            assert_eq!(service.status(), *to);
            assert_eq!(service.updated_at, at(now).at_least(before.updated_at));
        }
        None => {
            assert_eq!(
                result,
                refusal(before.status(), step).map_or(Ok(false), Err),
                "{before:?} by {step:?}"
            );
            assert_eq!(service.status(), before.status());
            if step == Step::Update && result.is_ok() {
                assert_eq!(service.updated_at, at(now).at_least(before.updated_at));
            } else {
                assert_eq!(*service, before, "what is refused changes nothing");
            }
        }
    }
    check_invariants(service);
}

fn check_invariants(service: &Service) {
    let expected: Option<Fault> = (service.status() == ServiceStatus::Failed).then(fault);
    assert_eq!(service.fault(), expected.as_ref());
    assert_eq!(
        service.holds_claims(),
        matches!(
            service.status(),
            ServiceStatus::Creating | ServiceStatus::Available
        )
    );
    assert!(service.updated_at >= service.created.at);
}

#[test]
fn a_new_service_is_creating_and_as_old_as_its_last_change() {
    let new = Service::new(service_request(), service_place());
    assert_eq!(new.status(), ServiceStatus::Creating);
    assert_eq!(new.updated_at, new.created.at);
    check_invariants(&new);
}

#[test]
fn every_step_in_every_state_follows_the_table() {
    for status in ServiceStatus::ALL {
        for step in STEPS {
            check(&mut service(*status), step, 5000);
        }
    }
}

proptest! {
    #[test]
    fn no_sequence_of_steps_leaves_the_table(
        // The clock may go back.
        steps in prop::collection::vec((prop::sample::select(&STEPS[..]), 900i64..1200), 0..24),
    ) {
        let mut service = service(ServiceStatus::Creating);
        for (step, now) in steps {
            let before = service.clone();
            check(&mut service, step, now);
            prop_assert!(service.updated_at >= before.updated_at);
            prop_assert!(before.status() != ServiceStatus::Deleting || service == before, "deletion is final");
        }
    }
}
