//! Further backends of a service (spec B.10).

use adit_model::{
    ApiError, Code,
    body::Body,
    id::ServiceId,
    service::{MoreBackend, check_kind, check_port, check_private, parse_server_resources},
};
use adit_store::{Key, Txn, keys::encode};

use super::{ATTEMPTS_MAX, App, Scope, fence, service::claim};
use crate::error::Failure;

impl App {
    /// Puts load balancers behind a service beside what is there, all or none, and waits a bounded moment until gateways know:
    /// connections go to each of them in turn from then on.
    ///
    /// # Errors
    /// By spec B.10; for each load balancer those of a `port_id` (3008, 3042, 3044).
    pub async fn backend_add(&self, scope: &Scope, id: ServiceId, body: &Body) -> Result<(), Failure> {
        let wanted = parse_server_resources(body)?;
        self.barrier().await?;
        for _ in 0..ATTEMPTS_MAX {
            let old = Self::own_service(&self.cache.read(), scope, id)?;
            check_private(&old, None)?;
            old.check_more_backends()?;
            let server_type = old.port().map(|port| port.server_type);
            let (mut more, mut fences) = (Vec::new(), Vec::new());
            for resource in &wanted {
                let balancer = resource.balancer;
                let found = self.network.get_load_balancer(balancer, &scope.project).await?;
                let unknown = || {
                    let why = format!("server_resources: {balancer} is not one of your load balancers.");
                    ApiError::because(Code::E3008, why)
                };
                let found = found.ok_or_else(unknown)?;
                let port = found.view.id;
                check_port(port, old.vpc, Some(&found.view))?;
                if let Some(server_type) = server_type {
                    check_kind(server_type, port, found.view.kind)?;
                }
                more.push(MoreBackend {
                    balancer,
                    port,
                    ip: found.view.ip.ok_or_else(unknown)?,
                    zone: resource.zone.clone(),
                });
                for fence in found.fences {
                    if !fences.contains(&fence) {
                        fences.push(fence);
                    }
                }
            }
            let mut new = (*old.value).clone();
            let added = new.add_backends(more, self.now())?;
            if added.is_empty() {
                return Ok(());
            }
            let txn = {
                let state = self.cache.read();
                let mut txn = Txn::new()
                    .unchanged(Key::Service(id), old.revision)
                    .put(Key::Service(id), encode(&new));
                txn = fence(txn, &fences);
                for port in added {
                    txn = claim(txn, &state, id, port, &new.ports)?;
                }
                txn
            };
            if self.commit(txn).await? {
                let concerned = {
                    let state = self.cache.read();
                    state.endpoints_of_service(id).iter().map(|e| e.id).collect()
                };
                self.on_the_wire(concerned).await;
                return Ok(());
            }
        }
        Err(Failure::Busy(ATTEMPTS_MAX))
    }
}
