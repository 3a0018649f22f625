//! The services of this node, by their uids.

use crate::cview::service::Service;
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::sync::Arc;

static SERVICES: RwLock<BTreeMap<u64, Arc<Service>>> = RwLock::new(BTreeMap::new());

/// Registers a service; false if its uid is taken.
pub(crate) fn add(service: Service) -> bool {
    let mut services = SERVICES.write();
    if services.contains_key(&service.uid()) {
        return false;
    }
    services.insert(service.uid(), Arc::new(service));
    true
}

pub(crate) fn find(uid: u64) -> Option<Arc<Service>> {
    SERVICES.read().get(&uid).cloned()
}

/// Removes the service at an address, which is compared, never followed.
pub(crate) fn remove(address: usize) -> bool {
    let mut services = SERVICES.write();
    let before = services.len();
    services.retain(|_, service| service.addr() != address);
    services.len() < before
}

/// Drains the registry; the caller decides when the services are freed.
pub(crate) fn take_all() -> impl Sized {
    std::mem::take(&mut *SERVICES.write())
}
