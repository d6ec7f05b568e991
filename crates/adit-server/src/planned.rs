//! Failures that were asked for, where they strike: a request that is refused, or a resource that becomes `failed`.
//!
//! Owns the plan and who is marked by it, in memory: a restart forgets both. How a failure is written is `adit-model`'s.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use adit_model::{
    ApiError, Code,
    body::quote,
    planned::{Effect, Plan, Planned},
};
use axum::http::Method;
use parking_lot::Mutex;
use utoipa::openapi::{OpenApi, path::Operation};
use uuid::Uuid;

use crate::error::Failure;

/// Operations that order something which may become `failed`.
const ORDERS: &[&str] = &[SERVICE_CREATE, ENDPOINT_CREATE];
pub(crate) const SERVICE_CREATE: &str = "service_create";
pub(crate) const ENDPOINT_CREATE: &str = "endpoint_create";

/// The failures that are planned.
#[derive(Default)]
pub struct Failures {
    /// The ids of operations, by method and pattern.
    operations: OnceLock<HashMap<(Method, String), String>>,
    plan: Mutex<Plan>,
    /// Whether there is a plan, so that nobody looks for one in vain.
    planned: AtomicBool,
    /// What will become `failed`.
    marked: Mutex<HashSet<Uuid>>,
}

impl Failures {
    /// Learns which operations there are.
    pub(crate) fn know(&self, document: &OpenApi) {
        let mut operations = HashMap::new();
        for (path, item) in &document.paths.paths {
            let methods: [(Method, &Option<Operation>); 4] = [
                (Method::GET, &item.get),
                (Method::POST, &item.post),
                (Method::PUT, &item.put),
                (Method::DELETE, &item.delete),
            ];
            for (method, operation) in methods {
                if let Some(id) = operation.as_ref().and_then(|o| o.operation_id.clone()) {
                    operations.insert((method, path.clone()), id);
                }
            }
        }
        let _ = self.operations.set(operations);
    }

    /// Plans these failures and no others.
    ///
    /// # Errors
    /// 0005, for an operation that there is not; 0002, for a `failed` that nothing can become.
    pub fn plan(&self, failures: Vec<Planned>) -> Result<(), ApiError> {
        let known = self.operations.get();
        for Planned {
            operation, effect, ..
        } in &failures
        {
            if !known.is_some_and(|known| known.values().any(|id| id == operation)) {
                let mut ids: Vec<_> = known
                    .into_iter()
                    .flat_map(HashMap::values)
                    .map(String::as_str)
                    .collect();
                ids.sort_unstable();
                let what = format!(
                    "operation: {} is none; there are {}.",
                    quote(operation),
                    ids.join(", ")
                );
                return Err(ApiError::because(Code::E0005, what));
            }
            if *effect == Effect::Failed && !ORDERS.contains(&operation.as_str()) {
                let orders = ORDERS.join(" and ");
                let what =
                    format!("effect: only what {orders} have made can become failed, not {operation}.");
                return Err(ApiError::because(Code::E0002, what));
            }
        }
        self.planned.store(!failures.is_empty(), Ordering::Relaxed);
        *self.plan.lock() = Plan(failures);
        Ok(())
    }

    /// What is still to happen.
    pub fn left(&self) -> Vec<Planned> {
        self.plan.lock().0.clone()
    }

    /// Lets a request to a route through whose failure is not planned.
    ///
    /// # Errors
    /// The failure that was asked for.
    pub(crate) fn strike(&self, method: &Method, pattern: &str) -> Result<(), Failure> {
        match self.reply(method, pattern) {
            Some((status, code)) => Err(Failure::Planned { status, code }),
            None => Ok(()),
        }
    }

    fn reply(&self, method: &Method, pattern: &str) -> Option<(u16, Code)> {
        if !self.planned.load(Ordering::Relaxed) {
            return None;
        }
        let method = if method == Method::HEAD {
            &Method::GET
        } else {
            method
        };
        let operation = self
            .operations
            .get()?
            .get(&(method.clone(), pattern.to_owned()))?;
        let effect = self
            .plan
            .lock()
            .take(operation, |effect| effect.reply().is_some())?;
        effect.reply()
    }

    /// Takes the failure of what an operation is about to order, if there is one.
    pub(crate) fn order(&self, operation: &'static str) -> Order<'_> {
        let planned = self.planned.load(Ordering::Relaxed);
        let taken = planned
            && self
                .plan
                .lock()
                .take(operation, |effect| effect == Effect::Failed)
                .is_some();
        Order {
            of: self,
            operation,
            taken,
        }
    }

    /// Why something that was ordered is to become `failed`.
    pub(crate) fn why(&self, id: Uuid) -> Option<ApiError> {
        self.marked
            .lock()
            .contains(&id)
            .then(|| ApiError::because(Code::E0001, "This failure was asked for."))
    }

    /// It has become so.
    pub(crate) fn happened(&self, id: Uuid) {
        self.marked.lock().remove(&id);
    }
}

impl fmt::Debug for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failures")
            .field("plan", &self.left())
            .finish_non_exhaustive()
    }
}

/// The failure of an order in progress; given back where the order does not come about.
pub(crate) struct Order<'a> {
    of: &'a Failures,
    operation: &'static str,
    taken: bool,
}

impl Order<'_> {
    /// Marks what is about to be committed, before a reconciler can see it.
    pub(crate) fn mark(&self, id: Uuid) {
        if self.taken {
            self.of.marked.lock().insert(id);
        }
    }

    /// It was committed.
    pub(crate) fn done(mut self) {
        self.taken = false;
    }
}

impl Drop for Order<'_> {
    fn drop(&mut self) {
        if self.taken {
            self.of.plan.lock().give_back(self.operation, Effect::Failed);
            self.of.planned.store(true, Ordering::Relaxed);
        }
    }
}
