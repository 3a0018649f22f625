//! The figures of this process under the names that every exporter gives them.

use std::fs;

use prometheus_client::registry::Unit;

use super::family::{Family, Samples};

/// Returns them; one that the kernel does not show is left out.
pub(super) fn families() -> Vec<Family> {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let page = rustix::param::page_size() as f64;
    // The name of the program, in parentheses, may have spaces; user and system time are the 14th and 15th field.
    let mut fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().skip(11);
    let mut number = |skip: usize| fields.nth(skip).and_then(|field| field.parse::<f64>().ok());
    let processor = number(0).zip(number(0)).map(|(user, system)| (user + system) / ticks);
    let resident = number(8).map(|pages| pages * page);
    let descriptors = fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as f64);
    let gauge = |value| Samples::Gauge(vec![(Vec::new(), value)]);
    let one = |name, unit, help, samples| Family { name, unit, help, samples };
    let processor = processor.map(|seconds| {
        let samples = Samples::Sum(vec![(Vec::new(), seconds)]);
        one("process_cpu", Some(Unit::Seconds), "Processor time of the process, user and system", samples)
    });
    let resident = resident.map(|bytes| {
        one("process_resident_memory", Some(Unit::Bytes), "Memory of the process that is in use", gauge(bytes))
    });
    let descriptors =
        descriptors.map(|count| one("process_open_fds", None, "Open file descriptors of the process", gauge(count)));
    [processor, resident, descriptors].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_shows_all_of_them() {
        let values: Vec<_> = families()
            .into_iter()
            .map(|family| match family.samples {
                Samples::Sum(samples) | Samples::Gauge(samples) => (family.name, samples[0].1),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(values.len(), 3, "{values:?}");
        // A test has more than a MiB and less than 64 GiB, and some descriptors.
        assert!((1e6..6.4e10).contains(&values[1].1) && values[2].1 >= 3.0, "{values:?}");
    }
}
