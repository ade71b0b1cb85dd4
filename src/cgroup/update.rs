//! What `update` makes of a container's limits and the wishes. Pure.
//!
//! Source: runc's update.go. Most wishes replace what was there; the lists of devices grow; some fields that are
//! absent from the wishes are dropped rather than written again.

use crate::spec::{BlockIo, Cpu, Memory, Resources, ThrottleDevice, WeightDevice};

/// The limits to write, and to keep for the next update.
pub fn merged(old: &Resources, wishes: &Resources) -> Resources {
    let mut new = old.clone();
    if let Some(memory) = &wishes.memory {
        merge_memory(new.memory.get_or_insert_default(), memory);
    }
    merge_cpu(new.cpu.get_or_insert_default(), wishes.cpu.as_ref().unwrap_or(&Cpu::default()));
    if let Some(block_io) = &wishes.block_io {
        merge_block_io(new.block_io.get_or_insert_default(), block_io);
    }
    // Absent means "leave it", and what was written once is not written again.
    new.pids = wishes.pids.clone();
    new.unified = wishes.unified.clone();
    new
}

fn take<T: Clone>(slot: &mut Option<T>, wish: &Option<T>) {
    if wish.is_some() {
        slot.clone_from(wish);
    }
}

fn merge_memory(memory: &mut Memory, wish: &Memory) {
    take(&mut memory.limit, &wish.limit);
    take(&mut memory.reservation, &wish.reservation);
    take(&mut memory.swap, &wish.swap);
    take(&mut memory.check_before_update, &wish.check_before_update);
    // The old memory+swap would stand above nothing: let it go with the limit.
    if wish.limit == Some(-1) && wish.swap.is_none() {
        memory.swap = Some(0);
    }
}

fn merge_cpu(cpu: &mut Cpu, wish: &Cpu) {
    let (period, quota) = (wish.period.filter(|p| *p != 0), wish.quota.filter(|q| *q != 0));
    // One alone goes with the other's old value, both or neither replace the old ones.
    if period.is_some() || quota.is_none() {
        cpu.period = period;
    }
    if quota.is_some() || period.is_none() {
        cpu.quota = quota;
    }
    cpu.burst = wish.burst;
    cpu.idle = wish.idle;
    take(&mut cpu.shares, &wish.shares);
    // The weight of an idle cgroup can't be set, now or with a later update.
    if wish.idle == Some(1) || (wish.idle.is_some() && wish.shares.is_none()) {
        cpu.shares = None;
    }
    take(&mut cpu.realtime_runtime, &wish.realtime_runtime);
    take(&mut cpu.realtime_period, &wish.realtime_period);
    cpu.cpus.clone_from(&wish.cpus);
    cpu.mems.clone_from(&wish.mems);
}

fn merge_block_io(block_io: &mut BlockIo, wish: &BlockIo) {
    take(&mut block_io.weight, &wish.weight);
    take(&mut block_io.leaf_weight, &wish.leaf_weight);
    for device in &wish.weight_device {
        merge_weight(&mut block_io.weight_device, device);
    }
    merge_throttles(&mut block_io.throttle_read_bps_device, &wish.throttle_read_bps_device);
    merge_throttles(&mut block_io.throttle_write_bps_device, &wish.throttle_write_bps_device);
    merge_throttles(&mut block_io.throttle_read_iops_device, &wish.throttle_read_iops_device);
    merge_throttles(&mut block_io.throttle_write_iops_device, &wish.throttle_write_iops_device);
}

/// Of several entries for a device the last one counts, so that is the one to change.
fn merge_weight(list: &mut Vec<WeightDevice>, wish: &WeightDevice) {
    match list.iter_mut().rev().find(|d| (d.major, d.minor) == (wish.major, wish.minor)) {
        Some(device) => {
            take(&mut device.weight, &wish.weight);
            take(&mut device.leaf_weight, &wish.leaf_weight);
        }
        None => list.push(wish.clone()),
    }
}

fn merge_throttles(list: &mut Vec<ThrottleDevice>, wishes: &[ThrottleDevice]) {
    for wish in wishes {
        match list.iter_mut().rev().find(|d| (d.major, d.minor) == (wish.major, wish.minor)) {
            Some(device) => device.rate = wish.rate,
            None => list.push(wish.clone()),
        }
    }
}

/// Fields below /linux/resources that no kernel of today has a place for.
pub(super) fn ignored_anywhere(resources: &Resources) -> Vec<String> {
    let Some(memory) = &resources.memory else { return Vec::new() };
    let fields = [
        // Linux 5.16 takes no kernel memory limits any more (EOPNOTSUPP), and before they were broken.
        ("memory/kernel", memory.kernel.is_some()),
        ("memory/kernelTCP", memory.kernel_tcp.is_some()),
        // Always on since Linux 5.11.
        ("memory/useHierarchy", memory.use_hierarchy == Some(false)),
    ];
    fields.iter().filter(|(_, present)| *present).map(|(field, _)| field.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(json: &str) -> Resources {
        serde_json::from_str(json).unwrap()
    }

    fn merge(old: &str, wish: &str) -> Resources {
        merged(&with(old), &with(wish))
    }

    #[test]
    fn one_of_quota_and_period_keeps_the_other() {
        let old = r#"{"cpu":{"quota":1000,"period":5000}}"#;
        let cpu = |wish: &str| merge(old, wish).cpu.map(|c| (c.quota, c.period)).unwrap();
        assert_eq!(cpu(r#"{"cpu":{"quota":2000}}"#), (Some(2000), Some(5000)));
        assert_eq!(cpu(r#"{"cpu":{"period":9000}}"#), (Some(1000), Some(9000)));
        assert_eq!(cpu(r#"{"cpu":{"quota":-1,"period":100}}"#), (Some(-1), Some(100)));
        assert_eq!(cpu(r#"{"cpu":{"shares":5}}"#), (None, None));
        assert_eq!(cpu("{}"), (None, None));
    }

    #[test]
    fn memory_keeps_and_lets_go_of_swap() {
        let old = r#"{"memory":{"limit":100,"swap":200,"reservation":50}}"#;
        let memory = merge(old, r#"{"memory":{"limit":150}}"#).memory.unwrap();
        assert_eq!((memory.limit, memory.swap, memory.reservation), (Some(150), Some(200), Some(50)));
        let memory = merge(old, r#"{"memory":{"limit":-1}}"#).memory.unwrap();
        assert_eq!((memory.limit, memory.swap), (Some(-1), Some(0)));
    }

    #[test]
    fn idle_drops_the_shares() {
        let old = r#"{"cpu":{"shares":512}}"#;
        assert_eq!(merge(old, r#"{"cpu":{"idle":1}}"#).cpu.unwrap().shares, None);
        assert_eq!(merge(old, r#"{"cpu":{"idle":0,"shares":7}}"#).cpu.unwrap().shares, Some(7));
        assert_eq!(merge(old, r#"{"cpu":{"idle":1,"shares":7}}"#).cpu.unwrap().shares, None);
        assert_eq!(merge(old, r#"{"cpu":{"quota":1}}"#).cpu.unwrap().shares, Some(512));
    }

    #[test]
    fn device_lists_grow_and_change() {
        let old = r#"{"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":1}],"weightDevice":[{"major":8,"minor":0,"weight":10}]}}"#;
        let wish = r#"{"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":2},{"major":8,"minor":16,"rate":3}],"weightDevice":[{"major":8,"minor":0,"leafWeight":20}]}}"#;
        let block_io = merge(old, wish).block_io.unwrap();
        let rates: Vec<_> = block_io.throttle_read_bps_device.iter().map(|d| d.rate).collect();
        assert_eq!(rates, [2, 3]);
        assert_eq!((block_io.weight_device[0].weight, block_io.weight_device[0].leaf_weight), (Some(10), Some(20)));
    }

    #[test]
    fn pids_are_not_written_twice() {
        assert_eq!(merge(r#"{"pids":{"limit":5}}"#, "{}").pids, None);
        assert_eq!(merge(r#"{"pids":{"limit":5}}"#, r#"{"pids":{"limit":0}}"#).pids.unwrap().limit, Some(0));
    }
}
