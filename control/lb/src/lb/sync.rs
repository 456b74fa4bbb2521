//! Full lists and restarts.

use crate::tables::{BackendId, PoolId, ServiceId};
use crate::types::BackendKey;

use super::Lb;

impl Lb {
    /// A full list begins: what is not applied again until [`Self::end_sync`] is gone.
    pub fn begin_sync(&mut self) {
        self.sync_epoch = self.sync_epoch.wrapping_add(1);
    }

    /// A full list of services and slices has been applied: removes what was not in it.
    pub fn end_sync(&mut self) {
        let epoch = self.sync_epoch;
        let services: Vec<_> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.service.is_some() && entry.seen != epoch)
            .map(|(_, entry)| entry.key.clone())
            .collect();
        for key in services {
            self.remove_service(&key.namespace, &key.name);
        }
        let slices: Vec<_> = self
            .slices
            .iter()
            .filter(|(_, record)| record.seen != epoch)
            .map(|(key, _)| key.clone())
            .collect();
        for key in slices {
            self.remove_slice(&key.namespace, &key.name);
        }
    }

    /// After a restart, before anything is applied: a pool that the maps hold, by its [`pool_identity`].
    ///
    /// [`pool_identity`]: crate::tables::pool_identity
    pub fn restore_pool(&mut self, identity: u64, pool: PoolId, service: ServiceId) {
        self.former.keep_pool(
            identity,
            pool,
            service,
            &mut self.pool_ids,
            &mut self.service_ids,
        );
    }

    /// After a restart, before anything is applied: a backend that the maps hold.
    pub fn restore_backend(&mut self, id: BackendId, key: BackendKey) {
        self.backends.restore(id, key);
    }

    /// After a restart, before anything is applied: a seat that the maps hold.
    pub fn restore_seat(&mut self, pool: PoolId, seat: u16, key: BackendKey) {
        self.former.keep_seat(pool, key, seat);
    }

    /// The first full list has been applied and polled: ids that nobody has wanted again are free.
    pub fn end_restore(&mut self) {
        self.former.end(&mut self.pool_ids, &mut self.service_ids);
        self.backends.end_restore();
    }
}
