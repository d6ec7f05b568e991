//! Gateways of one name: it is one gateway's, and there are several only by mistake.
//!
//! A gateway that is started anew, or is taken over from, has another process by its name, and the former one does not come
//! again. One that does is a namesake: the newer one keeps the name, and the other is told, instead of both pushing each other
//! off the feed for ever.

use std::collections::{HashMap, VecDeque};

use adit_model::node::NodeName;
use uuid::Uuid;

use super::Feed;

/// Of how many former processes of one name it is known that they were.
const FORMER_MAX: usize = 16;

/// The processes that have come by each name.
#[derive(Debug, Default)]
pub(super) struct Namesakes(HashMap<NodeName, Processes>);

#[derive(Debug)]
struct Processes {
    present: Uuid,
    former: VecDeque<Uuid>,
}

impl Namesakes {
    /// The last one of a name has gone: whoever comes is the only one.
    pub(super) fn forget(&mut self, name: &NodeName) {
        self.0.remove(name);
    }
}

impl Feed {
    /// Whether a gateway's process may have the name: it may not where it has left it to another one, which is there. Answers where
    /// that one is, as far as it is known.
    pub(crate) fn admit(&self, name: &NodeName, process: Uuid) -> Result<(), Option<String>> {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        let node = inner.nodes.get(name);
        let processes = inner.namesakes.0.entry(name.clone());
        let processes = processes.or_insert_with(|| Processes {
            present: process,
            former: VecDeque::new(),
        });
        if processes.present == process {
            return Ok(());
        }
        if let Some(node) = node.filter(|_| processes.former.contains(&process)) {
            return Err(node.about.as_ref().map(|about| about.address.clone()));
        }
        let former = std::mem::replace(&mut processes.present, process);
        processes.former.push_back(former);
        if processes.former.len() > FORMER_MAX {
            processes.former.pop_front();
        }
        Ok(())
    }
}
