//! System calls that are interrupted: fault 15. Short ones are in `links`.

use std::thread::sleep;
use std::time::Duration;

use crate::history::{Clients, Kept};
use crate::site::{Name, Site, await_role, epoch, leave_out};
use crate::support::{TempDir, has_tool};

#[test]
#[ignore = "with all the others: scripts/faults"]
fn interrupted_calls() {
    let of = "15 every seventh call interrupted, for 3 s";
    if !has_tool("strace") {
        return leave_out(of, "strace is missing");
    }
    let site = Site::on_loopback(&["--no-sandbox"]);
    const CALLS: &str =
        "inject=read,write,recvfrom,sendto,readv,writev,accept4,connect,epoll_wait:error=EINTR:when=7+7";
    let dir = TempDir::new();
    // As a tracer beside it: the process that was started is the daemon itself.
    let a = site.start_under(dir, Name::A, &["strace", "-D", "-qq", "-o", "/dev/null", "-e", CALLS]);
    let b = site.start(Name::B);
    await_role(&a, "PRIMARY");
    await_role(&b, "SECONDARY");
    let clients = Clients::start(&a, &b);
    sleep(Duration::from_secs(3));
    clients.finish(of, &a, &b, Kept::All);
    assert_eq!(epoch(&a), 1, "{}", b.log());
    for node in [&a, &b] {
        assert_eq!(node.log().matches(" peer_link_up ").count(), 1, "the link lives: {}", node.log());
    }
}
