//! Which endpoint holds, or is about to hold, an address or a block of addresses of a namespace. Pure.

use std::{collections::HashMap, net::Ipv4Addr};

use adit_model::id::{EndpointId, ServiceId};
use ipnet::Ipv4Net;

use crate::plan::{At, HeldAddress, Place};

/// Who holds what.
#[derive(Debug, Default)]
pub(crate) struct Claims(HashMap<(Place, Ipv4Net), Claim>);

/// One address or block.
#[derive(Debug)]
struct Claim {
    /// The service whose endpoints may hold it together; none for an address, which is one endpoint's.
    shared: Option<ServiceId>,
    by: Vec<EndpointId>,
}

/// Another endpoint has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("address {block} is still held by endpoint {by}")]
pub(crate) struct AddressHeld {
    block: Ipv4Net,
    by: EndpointId,
}

impl Claims {
    /// Makes an address the endpoint's, if it is nobody else's. Blocks may be held by several endpoints to their service.
    pub(crate) fn claim(
        &mut self,
        id: EndpointId,
        service: Option<ServiceId>,
        address: &HeldAddress,
    ) -> Result<(), AddressHeld> {
        let shared = service.filter(|_| matches!(address.at, At::Blocks(_)));
        let blocks = address.at.blocks();
        // Only exact equals meet: the API lets no address lie in a block that routes lead away.
        for block in &blocks {
            let held = self.0.get(&(address.place.clone(), *block));
            let strange = held.filter(|claim| shared.is_none() || claim.shared != shared);
            if let Some(by) = strange.and_then(|claim| claim.by.iter().find(|by| **by != id)) {
                return Err(AddressHeld {
                    block: *block,
                    by: *by,
                });
            }
        }
        for block in blocks {
            let claim = self.0.entry((address.place.clone(), block)).or_insert(Claim {
                shared,
                by: Vec::new(),
            });
            if !claim.by.contains(&id) {
                claim.by.push(id);
            }
        }
        Ok(())
    }

    /// Whose address it is, if one endpoint's.
    pub(crate) fn holder(&self, place: &Place, ip: Ipv4Addr) -> Option<EndpointId> {
        let claim = self.0.get(&(place.clone(), ip.into()))?;
        claim.by.first().copied()
    }

    /// Lets another endpoint have an address.
    pub(crate) fn unclaim(&mut self, id: EndpointId, address: &HeldAddress) {
        for block in address.at.blocks() {
            let key = (address.place.clone(), block);
            if let Some(claim) = self.0.get_mut(&key) {
                claim.by.retain(|by| *by != id);
                if claim.by.is_empty() {
                    self.0.remove(&key);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(at: At) -> HeldAddress {
        HeldAddress {
            place: Place {
                name: "vpc".to_owned(),
                inode: 1,
            },
            link: "s0".to_owned(),
            at,
        }
    }

    #[test]
    fn an_address_is_one_endpoint_s_and_blocks_are_one_service_s() {
        let mut claims = Claims::default();
        let (one, two) = (EndpointId::random(), EndpointId::random());
        let (service, other) = (Some(ServiceId::random()), Some(ServiceId::random()));
        let address = held(At::Address([10, 0, 0, 9].into()));
        let blocks = held(At::Blocks(["100.125.0.0/16".parse().unwrap()].into()));
        for wanted in [&address, &blocks] {
            // What is claimed twice is held once.
            claims.claim(one, service, wanted).unwrap();
            claims.claim(one, service, wanted).unwrap();
            let refused = claims.claim(two, other, wanted).unwrap_err();
            assert_eq!(refused.by, one);
        }
        assert_eq!(claims.holder(&address.place, [10, 0, 0, 9].into()), Some(one));
        assert_eq!(claims.holder(&address.place, [10, 0, 0, 8].into()), None);
        assert!(claims.claim(two, service, &address).is_err());
        claims.claim(two, service, &blocks).unwrap();
        claims.unclaim(one, &address);
        claims.unclaim(one, &blocks);
        claims.claim(two, other, &address).unwrap();
        assert_eq!(claims.claim(one, other, &blocks).unwrap_err().by, two);
        claims.unclaim(two, &blocks);
        claims.unclaim(two, &blocks);
        claims.claim(one, other, &blocks).unwrap();
    }
}
