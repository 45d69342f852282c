//! That every fault fits the core.

use crate::fault::faults;
use crate::root;

#[test]
fn every_fault_fits_the_core_as_it_is() {
    let root = root().expect("the tests run in the workspace");
    let faults = faults(&root).expect("each is a fault");
    assert!(!faults.is_empty());
    let misfits = faults.iter().filter_map(|fault| fault.planted(&root).err());
    let misfits: Vec<String> = misfits.map(|error| error.to_string()).collect();
    assert!(misfits.is_empty(), "{misfits:#?}");
}
