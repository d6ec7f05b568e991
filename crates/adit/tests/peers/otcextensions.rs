//! python-otcextensions' own functional suite, unchanged.

use crate::{process::Region, venv::Venv};

/// How many tests the suite has, in the version of the requirements.
const TESTS: usize = 22;

#[test]
fn otcextensions_functional_suite() {
    let Some(venv) = Venv::of("openstack", "otcextensions_functional_suite") else {
        return;
    };
    let region = Region::ephemeral();
    let home = tempfile::tempdir().unwrap();
    // The suite wants a cloud of this name.
    let clouds = std::fs::read_to_string(region.clouds()).unwrap();
    let clouds = clouds.replacen("  demo:\n", "  otc:\n", 1);
    let file = home.path().join("clouds.yaml");
    std::fs::write(&file, clouds).unwrap();
    let output = venv
        .command("python", home.path())
        .args([
            "-m",
            "pytest",
            "--verbose",
            "--tb=short",
            "-p",
            "no:cacheprovider",
        ])
        .args(["--pyargs", "otcextensions.tests.functional.sdk.vpcep"])
        .env("OS_CLIENT_CONFIG_FILE", file)
        // The suite's own default is 3 s, which it sleeps longer than.
        .env("OS_TEST_TIMEOUT", "120")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let passed = said
        .lines()
        .filter(|line| line.contains("::test_") && line.contains(" PASSED "))
        .count();
    assert!(
        output.status.success() && passed == TESTS,
        "{passed} of {TESTS} passed:\n{said}"
    );
}
