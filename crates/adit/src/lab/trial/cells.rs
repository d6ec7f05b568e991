//! Which failures are tried. Pure.

use std::fmt;

use crate::lab::plan::Side;

/// What fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A member of etcd that does not lead.
    EtcdMember,
    /// The one that leads.
    EtcdLeader,
    /// The control plane whose reconcilers run.
    ApiLeader,
    /// Another.
    ApiOther,
    /// The gateway that serves the endpoint.
    Gateway,
    /// Every control plane.
    ControlPlane,
    /// Every member of etcd.
    Etcd,
}

/// How.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL, and started again.
    Kill,
    /// SIGSTOP, and SIGCONT.
    Stop,
    /// Its links are cut, all or one side's, and mended.
    Cut(Option<Side>),
    /// Its disk is full, and has room again.
    FullDisk,
}

/// One failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// What fails.
    pub target: Target,
    /// How.
    pub fault: Fault,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EtcdMember => "etcd member",
            Self::EtcdLeader => "etcd leader",
            Self::ApiLeader => "api that leads",
            Self::ApiOther => "api that does not",
            Self::Gateway => "gateway that serves",
            Self::ControlPlane => "all of api",
            Self::Etcd => "all of etcd",
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill => "kill -9",
            Self::Stop => "SIGSTOP, SIGCONT",
            Self::Cut(None) => "cut link",
            Self::Cut(Some(Side::Control)) => "cut from control",
            Self::Cut(Some(Side::Tenants)) => "cut from tenants",
            Self::FullDisk => "full disk",
        })
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.target, self.fault)
    }
}

/// All of them, in the order of the table.
#[must_use]
pub fn all() -> Vec<Cell> {
    let mut cells = Vec::new();
    for target in [
        Target::EtcdMember,
        Target::EtcdLeader,
        Target::ApiOther,
        Target::ApiLeader,
        Target::Gateway,
    ] {
        for fault in [Fault::Kill, Fault::Stop, Fault::Cut(None)] {
            cells.push(Cell { target, fault });
        }
        if target == Target::Gateway {
            for side in [Side::Control, Side::Tenants] {
                let fault = Fault::Cut(Some(side));
                cells.push(Cell { target, fault });
            }
        }
        let fault = Fault::FullDisk;
        cells.push(Cell { target, fault });
    }
    for target in [Target::ControlPlane, Target::Etcd] {
        let fault = Fault::Kill;
        cells.push(Cell { target, fault });
    }
    cells
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_kind_of_process_fails_in_each_way_and_cells_have_names_of_their_own() {
        let cells = all();
        let names: BTreeSet<_> = cells.iter().map(ToString::to_string).collect();
        assert_eq!(names.len(), cells.len());
        assert_eq!(cells.len(), 5 * 4 + 2 + 2);
    }
}
