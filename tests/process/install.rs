//! `scripts/install`, `scripts/uninstall` and the package of `scripts/build-deb`, into a directory of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::{TempDir, has_tool};

fn run(script: &str, arguments: &[&str]) -> Output {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(script);
    Command::new(path).args(arguments).output().unwrap()
}

fn lines(output: &Output) -> Vec<String> {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

/// Every file below a directory.
fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

#[test]
fn everything_is_installed_once_and_removed_again() {
    let dir = TempDir::new();
    let destdir = format!("--destdir={}", dir.path().display());
    let binary = format!("--binary={}", env!("CARGO_BIN_EXE_bbd"));
    let arguments = ["--prefix=/opt/bbd", &destdir, &binary];
    let first = lines(&run("install", &arguments));
    assert!(first.iter().all(|line| line.starts_with("installed  ")), "{first:#?}");
    let prefix = dir.path().join("opt/bbd");
    let files = files_below(&prefix);
    assert_eq!(files.len(), first.len(), "{files:#?}");
    for path in ["bin/bbd", "share/man/man8/bbd.8", "lib/systemd/system/bbd.socket", "share/zsh/site-functions/_bbd"] {
        assert!(files.contains(&prefix.join(path)), "{path} in {files:#?}");
    }
    assert!(Command::new(prefix.join("bin/bbd")).arg("version").output().unwrap().status.success());
    let unit = fs::read_to_string(prefix.join("lib/systemd/system/bbd.service")).unwrap();
    assert!(unit.contains("\nExecStart=/opt/bbd/bin/bbd --uds="), "{unit}");

    // Again: only what somebody has changed meanwhile.
    fs::write(prefix.join("share/man/man1/bbd.1"), "old").unwrap();
    let again = lines(&run("install", &arguments));
    let done: Vec<&String> = again.iter().filter(|line| !line.starts_with("unchanged  ")).collect();
    assert!(done.len() == 1 && done[0].ends_with("man1/bbd.1"), "{again:#?}");

    let foreign = prefix.join("bin/other");
    fs::write(&foreign, "").unwrap();
    let removed = lines(&run("uninstall", &["--prefix=/opt/bbd", &destdir]));
    assert_eq!(removed.iter().filter(|line| line.starts_with("removed    ")).count(), first.len());
    assert_eq!(files_below(&prefix), [foreign], "what is not its own stays");
    let none = lines(&run("uninstall", &["--prefix=/opt/bbd", &destdir]));
    assert!(none.iter().all(|line| line.starts_with("not there  ")), "{none:#?}");
}

#[test]
fn what_is_wrong_is_said_and_nothing_done() {
    let dir = TempDir::new();
    let destdir = format!("--destdir={}", dir.path().display());
    for (arguments, said) in [
        (&["--prefix=here"][..], "absolute path"),
        (&["--verbose"], "unknown argument --verbose"),
        (&[&destdir, "--binary=/no/such/bbd"], "cargo build --release"),
    ] {
        let output = run("install", arguments);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && message.contains(said), "{arguments:?}: {output:?}");
    }
    assert!(files_below(dir.path()).is_empty());
}

/// dpkg(1) on a system of its own below a directory.
fn dpkg(root: &Path, arguments: &[&str]) -> Output {
    let root = format!("--root={}", root.display());
    let forced = ["--force-script-chrootless", "--force-not-root", "--force-depends", "--force-confdef"];
    Command::new("dpkg").arg(root).args(forced).args(arguments).env("PATH", PATH_OF_DPKG).output().unwrap()
}

const PATH_OF_DPKG: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[test]
fn a_debian_package_is_installed_and_removed_and_keeps_what_was_configured() {
    if !has_tool("dpkg-deb") {
        return;
    }
    let dir = TempDir::new();
    let binary = format!("--binary={}", env!("CARGO_BIN_EXE_bbd"));
    let built = lines(&run("build-deb", &[&binary, &format!("--output={}", dir.path().display())]));
    let package = built.last().unwrap();
    assert!(package.contains(&format!("/bbd_{}_", env!("CARGO_PKG_VERSION"))), "{package}");

    let root = dir.path().join("root");
    for name in ["info", "updates"] {
        fs::create_dir_all(root.join("var/lib/dpkg").join(name)).unwrap();
    }
    fs::write(root.join("var/lib/dpkg/status"), "").unwrap();
    lines(&dpkg(&root, &["--install", package]));
    for path in ["usr/share/man/man8/bbd.8.gz", "usr/lib/systemd/system/bbd.socket", "usr/share/doc/bbd/copyright"] {
        assert!(root.join(path).is_file(), "{path} in {:#?}", files_below(&root));
    }
    assert!(Command::new(root.join("usr/bin/bbd")).arg("version").output().unwrap().status.success());
    let unit = fs::read_to_string(root.join("usr/lib/systemd/system/bbd.service")).unwrap();
    assert!(unit.contains("\nExecStart=/usr/bin/bbd --uds="), "{unit}");

    let settings = root.join("etc/bbd/environment");
    fs::write(&settings, "BBD_SITE=fra\n").unwrap();
    lines(&dpkg(&root, &["--install", package]));
    lines(&dpkg(&root, &["--remove", "bbd"]));
    assert!(!root.join("usr/bin/bbd").exists());
    assert_eq!(fs::read_to_string(&settings).unwrap(), "BBD_SITE=fra\n");
    lines(&dpkg(&root, &["--purge", "bbd"]));
    assert!(!settings.exists());
}
