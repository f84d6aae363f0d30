//! Blobs, counters and names.

use std::thread::sleep;
use std::time::Duration;

use super::{run, run_with, unlimited};

#[test]
fn the_life_of_a_blob() {
    let daemon = unlimited();
    let id = run(&daemon, &["create", "--data", "one"]).line();
    assert!(id.starts_with("v1:0:"), "{id}");
    assert_eq!(run(&daemon, &["get", &id]).bytes(), b"one");
    run(&daemon, &["update", "--data", "two", &id]).done();
    assert_eq!(run(&daemon, &["get", &id]).bytes(), b"two");
    run(&daemon, &["touch", "--ttl", "90", &id]).done();
    let got = run(&daemon, &["get", "--ttl", &id]);
    assert_eq!((got.status, got.stdout.as_slice(), got.stderr.as_str()), (0, &b"two"[..], "90\n"));
    run(&daemon, &["delete", &id]).done();
    run(&daemon, &["delete", &id]).done();
    run(&daemon, &["get", &id]).fails(1, "NotFound");
    run(&daemon, &["update", "--data", "x", &id]).fails(1, "NotFound");
    run(&daemon, &["touch", "--ttl", "1", &id]).fails(1, "NotFound");
}

#[test]
fn contents_come_from_the_command_line_or_standard_input() {
    let daemon = unlimited();
    let every_byte: Vec<u8> = (0..=255).cycle().take(2048).collect();
    let id = run_with(&daemon, &["create"], &every_byte).line();
    assert_eq!(run(&daemon, &["get", &id]).bytes(), every_byte);
    run_with(&daemon, &["update", &id, "--data=given"], b"not read").done();
    assert_eq!(run(&daemon, &["get", &id]).bytes(), b"given");
    run_with(&daemon, &["update", &id], b"").done();
    assert_eq!(run(&daemon, &["get", &id]).bytes(), b"");
    // What looks like a counter is a blob here all the same.
    let counter = r#"{"type":"counter","value":1}"#;
    let id = run(&daemon, &["create", "--data", counter]).line();
    assert_eq!(run(&daemon, &["get", &id]).bytes(), counter.as_bytes());
    run(&daemon, &["counter-get", &id]).fails(2, "TypeMismatch");
    run(&daemon, &["counter-set", "--value=7", &id]).fails(2, "TypeMismatch");
    assert_eq!(run(&daemon, &["get", &id]).bytes(), counter.as_bytes());
    run(&daemon, &["counter-increment", &id]).fails(2, "TypeMismatch");
}

#[test]
fn times_to_live_are_kept() {
    let daemon = unlimited();
    let id = run(&daemon, &["create", "--data=x", "--ttl=300ms"]).line();
    assert_eq!(run(&daemon, &["get", &id]).bytes(), b"x");
    sleep(Duration::from_millis(400));
    run(&daemon, &["get", &id]).fails(1, "StoreExpired");
    let id = run(&daemon, &["create", "--data=x", "--ttl", "1h"]).line();
    assert_eq!(run(&daemon, &["get", "--ttl", &id]).stderr, "3600\n");
    run(&daemon, &["update", "--data=y", "--ttl=2m", &id]).done();
    assert_eq!(run(&daemon, &["get", "--ttl", &id]).stderr, "120\n");
    let id = run(&daemon, &["create", "--data=x"]).line();
    assert_eq!(run(&daemon, &["get", "--ttl", &id]).stderr, "1209600\n");
}

#[test]
fn names_of_the_older_commands() {
    let daemon = unlimited();
    // Everything that a path could take for its own.
    let name = "a/b c?d=e&f%20#ü+";
    let id = run(&daemon, &["create", "--data=x", "--name", name]).line();
    assert_eq!(run(&daemon, &["lookup", name]).line(), id);
    run(&daemon, &["create", "--data=y", "--name", name]).fails(3, "NameExists");
    assert_eq!(run(&daemon, &["create", "--data=y", "--name", name, "--reuse"]).line(), id);
    assert_eq!(run(&daemon, &["get", &id]).bytes(), b"x");
    run(&daemon, &["create", "--data=y", "--name", name, "--reuse=false"]).fails(3, "NameExists");
    run(&daemon, &["create", "--data=y", "--reuse"]).fails(2, "--name");
    run(&daemon, &["delete-named", name]).done();
    run(&daemon, &["delete-named", name]).done();
    run(&daemon, &["lookup", name]).fails(1, "NotFound");
    let id = run(&daemon, &["create", "--data=z", "--name", "-dash"]).line();
    assert_eq!(run(&daemon, &["lookup", "--", "-dash"]).line(), id);
}

#[test]
fn customers_are_apart() {
    let daemon = unlimited();
    let id = run(&daemon, &["create", "--data=x", "--customer=acme", "--name=n"]).line();
    run(&daemon, &["get", &id]).fails(2, "no store id of this customer");
    run(&daemon, &["lookup", "n"]).fails(1, "NotFound");
    assert_eq!(run(&daemon, &["get", &id, "-customer", "acme"]).bytes(), b"x");
}

#[test]
fn the_life_of_a_counter() {
    let daemon = unlimited();
    let id =
        run(&daemon, &["counter-create", "--value=5", "--min=-10", "--max", "10", "--with-min", "--with-max"]).line();
    assert_eq!(run(&daemon, &["counter-get", &id]).line(), "5");
    assert_eq!(run(&daemon, &["counter-increment", &id]).line(), "6");
    assert_eq!(run(&daemon, &["counter-increment", "--delta", "-4", &id]).line(), "2");
    assert_eq!(run(&daemon, &["counter-decrement", "-delta=3", &id]).line(), "-1");
    let clamped = run(&daemon, &["counter-increment", "--delta=100", &id]);
    assert_eq!((clamped.status, clamped.stdout.as_slice()), (0, &b"10\n"[..]));
    assert!(clamped.stderr.contains("bound"), "{clamped:?}");
    run(&daemon, &["counter-set", "--value", "-10", &id]).done();
    assert_eq!(run(&daemon, &["get", &id]).line(), r#"{"value":-10,"version":6,"min":-10,"max":10}"#);
    run(&daemon, &["counter-set", "--value=11", &id]).fails(2, "ValueOutOfBounds");
    run(&daemon, &["counter-create", "--min=2", "--max=1"]).fails(2, "InvalidBounds");
    run(&daemon, &["counter-create", "--value=3", "--max=1"]).fails(2, "ValueOutOfBounds");
    let id = run(&daemon, &["counter-create", "--name=c", "--ttl=60"]).line();
    assert_eq!(run(&daemon, &["counter-create", "--name=c", "--reuse"]).line(), id);
    run(&daemon, &["counter-set", "--value", &i64::MAX.to_string(), &id]).done();
    run(&daemon, &["counter-increment", &id]).fails(70, "Overflow");
    run(&daemon, &["counter-decrement", "--ttl=5m", &id]).line();
    assert_eq!(run(&daemon, &["get", "--ttl", &id]).stderr, "300\n");
    run(&daemon, &["modify", &id, "--", "cat"]).fails(2, "TypeMismatch");
}

#[test]
fn one_round_trip_by_name() {
    let daemon = unlimited();
    let id = run(&daemon, &["named", "put", "--data=one", "--ttl=60", "n"]).line();
    assert_eq!(run(&daemon, &["named", "put", "n", "--data=two"]).line(), id);
    assert_eq!(run(&daemon, &["lookup", "n"]).line(), id);
    let got = run(&daemon, &["named", "get", "--ttl", "n"]);
    assert_eq!((got.stdout.as_slice(), got.stderr.as_str()), (&b"two"[..], "60\n"));
    assert_eq!(run(&daemon, &["named", "get", "--touch=600", "n"]).bytes(), b"two");
    assert_eq!(run(&daemon, &["named", "get", "--ttl", "n"]).stderr, "600\n");
    run(&daemon, &["named", "get", "--touch=1500ms", "n"]).fails(2, "--touch");
    run(&daemon, &["named", "touch", "--ttl=90", "n"]).done();
    assert_eq!(run(&daemon, &["named", "get", "--ttl", "n"]).stderr, "90\n");
    run(&daemon, &["named", "put", "--if-absent", "--data=x", "n"]).fails(3, "VersionMismatch");
    run_with(&daemon, &["named", "put", "--if-present", "n"], b"three").line();
    run(&daemon, &["named", "delete", "n"]).done();
    run(&daemon, &["named", "delete", "n"]).done();
    run(&daemon, &["named", "put", "--if-present", "--data=x", "n"]).fails(3, "VersionMismatch");
    run(&daemon, &["named", "put", "--if-present", "--if-absent", "--data=x", "n"]).fails(2, "--if-absent");
    run(&daemon, &["named", "get", "n"]).fails(1, "NotFound");
    run(&daemon, &["named", "touch", "--ttl=1", "n"]).fails(1, "NotFound");
    run(&daemon, &["named", "get", "."]).fails(2, "");
}

#[test]
fn a_rate_limiter_in_one_line() {
    let daemon = unlimited();
    let limiter = ["named", "increment", "--max=2", "--ttl=60", "--reject", "logins"];
    assert_eq!(run(&daemon, &limiter).line(), "1");
    assert_eq!(run(&daemon, &limiter).line(), "2");
    let refused = run(&daemon, &limiter);
    assert_eq!((refused.status, refused.stdout.as_slice()), (4, &b"2\n"[..]));
    assert_eq!(run(&daemon, &["named", "get", "--ttl", "logins"]).stderr, "60\n");
    let made = run(&daemon, &["named", "increment", "--value=10", "--delta=-3", "--min=0", "--max=20", "other"]);
    assert_eq!(made.line(), "7");
    let clamped = run(&daemon, &["named", "increment", "--delta=-30", "other"]);
    assert_eq!((clamped.status, clamped.stdout.as_slice()), (0, &b"0\n"[..]));
    run(&daemon, &["named", "put", "--data=x", "blob"]).line();
    run(&daemon, &["named", "increment", "blob"]).fails(2, "TypeMismatch");
}

#[test]
fn names_are_listed_over_pages() {
    let daemon = unlimited();
    assert_eq!(run(&daemon, &["named", "list"]).bytes(), b"");
    let mut connection = daemon.connect();
    let names: Vec<String> = (0..2300).map(|number| format!("n/{number:04} é")).collect();
    for name in &names {
        let encoded = name.replace('/', "%2F").replace(' ', "%20").replace('é', "%C3%A9");
        let request = format!(
            "PUT /api/v1/named/{encoded} HTTP/1.1\r\nHost: a\r\nX-Customer-ID: default\r\nContent-Length: 0\r\n\r\n"
        );
        connection.send(request.as_bytes());
        assert_eq!(connection.answer(false).unwrap().unwrap().status, 201);
    }
    let lines = |args: &[&str]| {
        let text = String::from_utf8(run(&daemon, &[&["named", "list"], args].concat()).bytes()).unwrap();
        text.lines().map(str::to_owned).collect::<Vec<String>>()
    };
    assert_eq!(lines(&[]), names);
    assert_eq!(lines(&["--prefix", "n/00"]), names[..100]);
    assert_eq!(lines(&["--after", &names[2297]]), names[2298..]);
    assert_eq!(lines(&["--limit=1500"]), names[..1500]);
    assert_eq!(lines(&["--limit", "1", "--after", &names[0], "--prefix=n/"]), names[1..2]);
    assert_eq!(lines(&["--prefix=m"]), [""; 0]);
}
