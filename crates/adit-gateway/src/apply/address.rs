//! An endpoint's address, or the way to its blocks, in the consumer's namespace: put there, kept alive, taken away, and
//! spoken of with the neighbours.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use adit_model::{error_chain, id::EndpointId};
use adit_netns::LinkError;
use ipnet::IpNet;

use super::{Apply, ApplyError, Entered};
use crate::{
    gate::{self, Gate},
    neighbours::{Neighbours, Station},
    plan::{At, HeldAddress, Place},
};

/// How many addresses are renewed before whoever removes one gets its turn: less than a millisecond.
const RENEWED_AT_ONCE: usize = 256;

impl Apply {
    /// Whose address, or whose way to its blocks, is not in a namespace any more; `None` where the namespace is not there, or
    /// does not say.
    pub(crate) async fn lost(
        &self,
        place: &Place,
        mut held: Vec<(EndpointId, At)>,
    ) -> Option<Vec<(EndpointId, At)>> {
        let entered = self.still(place).await?;
        let addresses = entered.links.addresses().await.ok()?;
        let hosts: HashSet<_> = addresses.into_iter().map(|a| a.network.addr()).collect();
        let routes: HashSet<_> = if held.iter().any(|(_, at)| matches!(at, At::Blocks(_))) {
            entered.links.routes().await.ok()?.into_iter().collect()
        } else {
            HashSet::new()
        };
        held.retain(|(id, at)| match at {
            At::Address(ip) => !hosts.contains(&IpAddr::V4(*ip)),
            At::Blocks(blocks) => !blocks
                .iter()
                .all(|block| routes.contains(&gate::way(*id, *block))),
        });
        Some(held)
    }

    /// Forgets which links a namespace's subnets are on: one may have been made anew.
    pub(crate) async fn forget_links(&self, place: &Place) {
        if let Some(entered) = self.still(place).await {
            entered.subnets.lock().clear();
        }
    }

    /// For how many seconds an address is there unless it is renewed; `None` is for ever.
    pub(crate) fn address_life_s(&self) -> Option<u32> {
        self.address_life_s
    }

    /// Has addresses that are held live on, all of a namespace at once. Those whose namespace is gone need none.
    pub(crate) async fn renew(&self, held: &[HeldAddress]) {
        let mut places: HashMap<&Place, HashMap<&str, Vec<Ipv4Addr>>> = HashMap::new();
        for address in held {
            if let At::Address(ip) = address.at {
                let links = places.entry(&address.place).or_default();
                links.entry(&address.link).or_default().push(ip);
            }
        }
        for (place, links) in places {
            if let Some(entered) = self.still(place).await
                && let Err(e) = self.renew_in(&entered, links).await
            {
                tracing::warn!(
                    netns.name = place.name,
                    error = error_chain(&e),
                    "Addresses could not be renewed."
                );
            }
        }
    }

    async fn renew_in(
        &self,
        entered: &Entered,
        links: HashMap<&str, Vec<Ipv4Addr>>,
    ) -> Result<(), ApplyError> {
        let Some(life) = self.address_life_s else {
            return Ok(());
        };
        let renewal = entered
            .renewal
            .get_or_try_init(|| entered.links.renewal())
            .await?;
        let mut all = Vec::new();
        for (link, addresses) in links {
            // Its socket knows the link's number, and is closed once that is another's. What is on a link that is gone is
            // lost, and takes nothing else along.
            match self.neighbours(entered, link).await {
                Ok(neighbours) => all.extend(addresses.into_iter().map(|ip| (neighbours.link(), ip))),
                Err(e) => {
                    tracing::warn!(
                        link.name = link,
                        error = error_chain(&e),
                        "Addresses could not be renewed."
                    );
                }
            }
        }
        let (renewal, present) = (renewal.clone(), Arc::clone(&entered.present));
        let renew = move || {
            let mut refused = Vec::new();
            for some in all.chunks(RENEWED_AT_ONCE) {
                let present = present.lock();
                let some: Vec<_> = some
                    .iter()
                    .filter(|(_, ip)| present.contains(ip))
                    .copied()
                    .collect();
                refused.extend(renewal.renew(&some, life)?);
            }
            Ok::<_, LinkError>(refused)
        };
        let refused = tokio::task::spawn_blocking(renew).await??;
        for (ip, e) in refused {
            tracing::warn!(endpoint.ip = %ip, error = %e, "An address could not be renewed.");
        }
        Ok(())
    }

    pub(super) async fn add_address(&self, id: EndpointId, held: &HeldAddress) -> Result<(), ApplyError> {
        let entered = self.enter(&held.place.name).await?;
        match &held.at {
            At::Address(ip) => {
                let added = entered
                    .links
                    .address_add(&held.link, host(*ip), self.address_life_s)
                    .await;
                // The link may have been made anew under another name.
                added.inspect_err(|_| entered.subnets.lock().clear())?;
                entered.present.lock().insert(*ip);
                Ok(())
            }
            At::Blocks(blocks) => {
                let mut gates = self.gates.lock().await;
                // What listens there stays where only the way to it was lost.
                let kept = || self.inherited.as_ref()?.keepsake(id.0.as_u128());
                let gate = match gates.get(&id) {
                    Some(gate) => gate.clone(),
                    None => {
                        let gate = match kept() {
                            Some(descriptor) => Gate::inherited(id, descriptor).await?,
                            None => Gate::new(id, blocks).await?,
                        };
                        gates.entry(id).insert_entry(gate).get().clone()
                    }
                };
                gate.connect(&entered.links, id, blocks).await
            }
        }
    }

    /// Takes an address, or the way to blocks, away at once.
    pub(crate) async fn remove_address(&self, id: EndpointId, held: &HeldAddress) -> Result<(), ApplyError> {
        let entered = self.still(&held.place).await;
        match &held.at {
            At::Address(ip) => match entered {
                // With its namespace the address is gone.
                None => Ok(()),
                Some(entered) => {
                    entered.present.lock().remove(ip);
                    entered.links.address_delete(&held.link, host(*ip)).await?;
                    if let Some(neighbours) = entered.neighbours.lock().await.get(&held.link) {
                        neighbours.release(*ip);
                    }
                    Ok(())
                }
            },
            At::Blocks(_) => {
                let mut gates = self.gates.lock().await;
                if let Some(entered) = entered {
                    gate::disconnect(&entered.links, id).await?;
                }
                gates.remove(&id);
                Ok(())
            }
        }
    }

    /// An address has lapsed, and may be another process's by now: it is neither renewed nor touched.
    pub(crate) async fn let_lapse(&self, held: &HeldAddress) {
        if let (At::Address(ip), Some(entered)) = (&held.at, self.still(&held.place).await) {
            entered.present.lock().remove(ip);
        }
    }

    /// Asks the neighbours whether one of them has an address; blocks are nobody's.
    pub(crate) async fn probe(&self, held: &HeldAddress) -> Result<Option<Station>, ApplyError> {
        let At::Address(ip) = held.at else {
            return Ok(None);
        };
        let entered = self.enter(&held.place.name).await?;
        let neighbours = self.neighbours(&entered, &held.link).await?;
        neighbours.probe(ip).await.map_err(ApplyError::Neighbours)
    }

    /// Says once more that an address that is held is here.
    pub(crate) async fn announce(&self, held: &HeldAddress) {
        self.tell(held, Neighbours::announce).await;
    }

    /// Asks whether anybody else has an address that is held; whoever does is told of as a conflict.
    pub(crate) async fn ask(&self, held: &HeldAddress) {
        self.tell(held, Neighbours::ask).await;
    }

    /// Those that never knew the address ask anyway, so a failure is no reason to hold the endpoint up.
    async fn tell(&self, held: &HeldAddress, what: fn(&Neighbours, Ipv4Addr) -> std::io::Result<()>) {
        let (At::Address(ip), Some(entered)) = (&held.at, self.still(&held.place).await) else {
            return;
        };
        let told = match self.neighbours(&entered, &held.link).await {
            Ok(neighbours) => {
                let present = entered.present.lock();
                if !present.contains(ip) {
                    return;
                }
                neighbours.hold(*ip);
                what(&neighbours, *ip).map_err(ApplyError::Neighbours)
            }
            Err(e) => Err(e),
        };
        if let Err(e) = told {
            tracing::warn!(endpoint.ip = %ip, error = error_chain(&e), "The neighbours cannot be told of an endpoint's address.");
        }
    }

    /// Who else is on a link.
    async fn neighbours(&self, entered: &Entered, link: &str) -> Result<Arc<Neighbours>, ApplyError> {
        let mut all = entered.neighbours.lock().await;
        if let Some(known) = all.get(link).filter(|known| !known.is_over()) {
            return Ok(Arc::clone(known));
        }
        let (place, conflicts) = (entered.place.clone(), self.conflicts.clone());
        let opened = Arc::new(Neighbours::open(&entered.links, link, place, conflicts).await?);
        all.insert(link.to_owned(), Arc::clone(&opened));
        Ok(opened)
    }
}

/// An endpoint's address on a link: itself alone, since the subnet is the router's.
fn host(ip: Ipv4Addr) -> IpNet {
    IpNet::from(IpAddr::V4(ip))
}

#[cfg(test)]
mod tests {
    use adit_netns::{Directory, Links, userns};
    use adit_relay::Relay;
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn what_was_removed_comes_back_by_no_list_from_before() {
        if let Err(error) = userns::probe() {
            assert!(std::env::var_os("CI").is_none(), "needs root: {error}");
            eprintln!("SKIPPED what_was_removed_comes_back_by_no_list_from_before: needs root");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::at(folder.path()).unwrap();
        let links = Links::open(&directory.create("vpc").unwrap()).await.unwrap();
        links.bridge_create("s0", [2, 0xad, 0, 0, 0, 1]).await.unwrap();
        let relay = Arc::new(Relay::start(adit_relay::Config::default()).unwrap());
        let apply = Apply::new(directory, relay, None, Some(60), mpsc::channel(1).0);
        let id = EndpointId::random();
        let ip = Ipv4Addr::new(10, 0, 0, 9);
        let held = [HeldAddress {
            place: apply.enter("vpc").await.unwrap().place,
            link: "s0".to_owned(),
            at: At::Address(ip),
        }];
        let is_there = async || {
            let all = links.addresses().await.unwrap();
            all.iter().any(|address| address.network == host(ip))
        };
        for _ in 0..2 {
            apply.add_address(id, &held[0]).await.unwrap();
            // What the kernel has lost, its gateway has to notice; until then it is put back.
            links.address_delete("s0", host(ip)).await.unwrap();
            apply.renew(&held).await;
            assert!(is_there().await);
            apply.remove_address(id, &held[0]).await.unwrap();
            apply.renew(&held).await;
            assert!(!is_there().await);
        }
        apply.directory.remove("vpc").unwrap();
    }
}
