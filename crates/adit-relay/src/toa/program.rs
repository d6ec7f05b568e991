//! From an object that was built in to programs in the kernel.

use aya::programs::{Program, ProgramError};
use aya::{Ebpf, EbpfLoader};
use rustix::process::{Resource, Rlimit, setrlimit};

use super::error::{LOAD, ToaError};

/// Makes an object's maps; its programs are loaded one by one. `set` may set its globals.
pub(super) fn load<'a>(object: &[u8], set: impl FnOnce(&mut EbpfLoader<'a>)) -> Result<Ebpf, ToaError> {
    // Kernels before 5.11 count the memory of BPF against it. Where it cannot be raised, the load says so.
    let unlimited = Rlimit {
        current: None,
        maximum: None,
    };
    let _ = setrlimit(Resource::Memlock, unlimited);
    let mut loader = EbpfLoader::new();
    // Our programs use nothing of the kernel's own types.
    loader.btf(None);
    set(&mut loader);
    loader.load(object).map_err(|error| ToaError::of(LOAD, &error))
}

/// A program of an object.
pub(super) fn named<'a, P>(programs: &'a mut Ebpf, name: &str) -> Result<P, ToaError>
where
    P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    let program = programs.program_mut(name);
    let program = program.ok_or_else(|| ToaError::Object(format!("it has no program `{name}`")))?;
    program.try_into().map_err(|error| ToaError::of(LOAD, &error))
}
