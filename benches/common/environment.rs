//! The machine and the build of a measurement.

use std::fs;
use std::process::Command;

/// The environment that a reader needs to judge the numbers.
pub(crate) fn read(bench: &str) -> Vec<(&'static str, String)> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.split_once(':').map(|(_, value)| value.trim().to_owned())
    };
    let said = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success())?;
        String::from_utf8(output.stdout).ok()?.lines().next().map(str::to_owned)
    };
    let unknown = || "unknown".to_owned();
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let model = field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(unknown);
    let kilobytes = field(&read("/proc/meminfo"), "MemTotal").and_then(|text| text.split(' ').next()?.parse().ok());
    let memory = kilobytes.map_or_else(unknown, |kilobytes: f64| format!("{:.1} GiB", kilobytes / 1024.0 / 1024.0));
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let command = format!("cargo bench --bench {bench} -- {}", arguments.join(" "));
    vec![
        ("date", said("date", &["-u", "+%Y-%m-%d %H:%M UTC"]).unwrap_or_else(unknown)),
        ("build", said("git", &["describe", "--always", "--dirty"]).unwrap_or_else(unknown)),
        ("machine", format!("{cpus} CPUs ({model}), {memory}")),
        // Other load makes every number worse, but not by the same factor.
        ("load average before", read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned()),
        ("kernel", read("/proc/sys/kernel/osrelease").trim().to_owned()),
        ("iperf3", said("iperf3", &["--version"]).unwrap_or_else(unknown)),
        ("command", format!("`{}`", command.trim_end_matches([' ', '-']))),
    ]
}
