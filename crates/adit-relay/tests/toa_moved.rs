//! A process that is moved to another cgroup leaves its TOA program behind. Needs root. Alone in its binary, since it moves
//! the whole process.

mod rig;

use adit_relay::toa::{Cgroup, KIND_DEFAULT, Sender};
use adit_relay::{Config, End};
use rig::{Rig, assert_ended, config};

#[test]
fn a_connection_that_goes_out_without_toa_is_counted() {
    if !adit_netns::userns::is_privileged() {
        assert!(std::env::var_os("CI").is_none(), "this test needs root");
        println!("SKIPPED a_connection_that_goes_out_without_toa_is_counted: run it as root");
        return;
    }
    let own = Cgroup::own().unwrap();
    let names = ["first", "second"].map(|name| format!("adit-test-moved-{}-{name}", std::process::id()));
    let [first, second] = names.each_ref().map(|name| own.create(name).unwrap());
    first.enter().unwrap();
    let tested = std::panic::catch_unwind(|| {
        let sender = Sender::start(KIND_DEFAULT).unwrap();
        let config = Config {
            toa: Some(sender),
            ..config()
        };
        let rig = Rig::with(config, |listener| listener.provider.toa = true);
        let exchange = || {
            let (client, mut accepted) = rig.connection();
            drop(client);
            assert_ended(&mut accepted);
        };
        exchange();
        rig.ended(End::Closed, 1);
        assert_eq!(rig.stats().toa_missing, 0);
        second.enter().unwrap();
        exchange();
        rig.ended(End::Closed, 2);
        assert_eq!(rig.stats().toa_missing, 1);
    });
    own.enter().unwrap();
    for name in &names {
        own.remove(name).unwrap();
    }
    tested.unwrap();
}
