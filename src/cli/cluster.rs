//! Owns the commands about the nodes of the cluster map: who belongs to it, who votes, who leads, and backups.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::client::Ask;
use super::commands::{DATA_DIR, JSON};
use super::exit::{Exit, Failure};
use super::invocation::Invocation;
use super::map::{self, Node, find, strange};
use super::operate::{COLUMN, lines_of};
use super::{Outcome, print, print_line};
use crate::config::values;
use crate::json::{self, Object, Value, write_string};
use crate::kv::image;
use crate::raft::member::Uuid;
use crate::server::map::store::restore::{self, NewNode};

/// How long a new node may take until it follows, and a membership until it is changed; the node itself gives up earlier.
const CHANGE_TIME_MAX: Duration = Duration::from_secs(35);
/// How long a backup may take.
const BACKUP_TIME_MAX: Duration = Duration::from_secs(600);
/// The largest backup that is taken; it is checked in memory.
const BACKUP_MAX_BYTES: usize = u32::MAX as usize;

/// `bbd cluster init`
pub(super) fn init(invocation: &Invocation) -> Outcome {
    Node::connect(invocation)?.get("/init")?;
    Ok(Exit::Done)
}

/// `bbd cluster status`
pub(super) fn status(invocation: &Invocation) -> Outcome {
    let reply = Node::connect(invocation)?.get("/metrics")?;
    let metrics = map::object(&reply)?;
    if invocation.has(&JSON) {
        return print_line(reply.body.trim_ascii_end());
    }
    let text = String::from_utf8_lossy(&reply.body);
    let inside = text.trim().strip_prefix("{\"Ok\":").and_then(|text| text.strip_suffix('}'));
    let lines = inside.and_then(|inside| lines_of(inside, &["membership_config", "replication"]));
    let (lines, members) = lines.zip(member_lines(metrics)).ok_or_else(strange)?;
    print((lines + &members).as_bytes())
}

/// The members, one a line: where each is, its id, whether it votes, and, as far as the asked node knows, whether it leads or how far it follows.
fn member_lines(metrics: Object<'_>) -> Option<String> {
    let Cluster { leader, configs, members } = Cluster::read(metrics)?;
    let replication = find(metrics, "replication").and_then(map::as_object);
    let votes_in = |config: Option<&Vec<String>>, id: &String| config.is_some_and(|voters| voters.contains(id));
    let mut lines = String::new();
    for (id, addr) in &members {
        let vote = match (votes_in(configs.first(), id), votes_in(configs.last(), id)) {
            (true, true) => "votes",
            (true, false) => "votes until the change under way is done",
            (false, true) => "votes once the change under way is done",
            (false, false) => "learns",
        };
        let follows = replication.and_then(|replication| {
            let follower = find(replication, id).and_then(map::as_object)?;
            let number = |name| {
                let Value::Integer(number) = find(follower, name)? else { return None };
                Some(number)
            };
            Some(format!(", has entry {}, heard {} ms ago", number("matched")?, number("heard_ms")?))
        });
        let leads = if leader.as_ref() == Some(id) { ", leads" } else { "" };
        // Writing to a String cannot fail.
        let _ = writeln!(lines, "{:<COLUMN$}{addr} {id} {vote}{leads}{}", "member", follows.unwrap_or_default());
    }
    Some(lines)
}

/// `bbd cluster add`
pub(super) fn add(invocation: &Invocation) -> Outcome {
    let addr = invocation.positionals.first().cloned().unwrap_or_default();
    let addr = values::tcp_address(&addr)
        .map_err(|allowed| Failure::usage(format!("{addr:?} is not where a node can be; allowed: {allowed}")))?;
    let reply = Node::connect_to(&addr, invocation)?.get("/get-id")?;
    let Ok(Value::String(id)) = json::read_value(&reply.body) else { return Err(strange()) };
    let body = strings(&[&id, &addr.to_string()]);
    change(invocation, "/add-learner", &body)?;
    print_line(id.as_bytes())
}

/// `bbd cluster promote`
pub(super) fn promote(invocation: &Invocation) -> Outcome {
    let cluster = Cluster::ask(invocation)?;
    let mut voters = cluster.voters().to_vec();
    for name in &invocation.positionals {
        let id = cluster.find(&name.to_string_lossy())?;
        if !voters.contains(&id) {
            voters.push(id);
        }
    }
    vote(invocation, &voters)
}

/// `bbd cluster remove`
pub(super) fn remove(invocation: &Invocation) -> Outcome {
    let cluster = Cluster::ask(invocation)?;
    let names = invocation.positionals.iter();
    let gone: Vec<String> = names.map(|name| cluster.find(&name.to_string_lossy())).collect::<Result<_, _>>()?;
    let voters: Vec<String> = cluster.voters().iter().filter(|voter| !gone.contains(voter)).cloned().collect();
    if voters.is_empty() {
        return Err(Failure::usage("nobody would be left; stop the last nodes instead, and remove their --data-dir"));
    }
    // First those without a vote: the leader may be among the others.
    for learner in gone.iter().filter(|id| !cluster.voters().contains(id)) {
        let mut body = Vec::new();
        write_string(&mut body, learner);
        change(invocation, "/remove-learner", &body)?;
    }
    if voters.len() < cluster.voters().len() { vote(invocation, &voters) } else { Ok(Exit::Done) }
}

/// `bbd cluster transfer`
pub(super) fn transfer(invocation: &Invocation) -> Outcome {
    let mut body = Vec::new();
    match invocation.positionals.first() {
        None => body.extend_from_slice(b"null"),
        Some(name) => write_string(&mut body, &Cluster::ask(invocation)?.find(&name.to_string_lossy())?),
    }
    change(invocation, "/transfer-leader", &body)
}

/// `bbd cluster backup`
pub(super) fn backup(invocation: &Invocation) -> Outcome {
    let file = PathBuf::from(invocation.positionals.first().cloned().unwrap_or_default());
    let mut ask = Ask::post("/backup".to_owned()).method("GET");
    (ask.wait, ask.answer_max_bytes) = (BACKUP_TIME_MAX, BACKUP_MAX_BYTES);
    let reply = Node::connect(invocation)?.ask(ask)?;
    let shown = image::read(&reply.body)
        .map_err(|problem| Failure::new(Exit::Other, format!("what came is no good backup: {problem}; try again")))?;
    save(&file, &reply.body)
        .map_err(|error| Failure::new(Exit::Other, format!("{} cannot be written: {error}", file.display())))?;
    print_line(shown.last.index.get().to_string().as_bytes())
}

/// `bbd cluster restore`
pub(super) fn restore(invocation: &Invocation) -> Outcome {
    let failed = |message: String| Failure::new(Exit::Other, message);
    let file = PathBuf::from(invocation.positionals.first().cloned().unwrap_or_default());
    let folder = Path::new(invocation.value(&DATA_DIR).unwrap_or_default());
    let backup = fs::read(&file).map_err(|error| failed(format!("{} cannot be read: {error}", file.display())))?;
    let draw = || {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|error| failed(format!("the system gives no randomness: {error}")))?;
        Ok(Uuid::from_random(bytes))
    };
    let backup = image::read(&backup)
        .map_err(|problem| failed(format!("{}: {problem}; nothing was restored", file.display())))?;
    let node = NewNode { uuid: draw()?, cluster: draw()? };
    let index = restore::restore(backup, folder, &node).map_err(|error| failed(error.to_string()))?;
    print_line(index.to_string().as_bytes())
}

/// Writes a file that only its owner may read, whole or not at all: what was there before stays until the new one is on disk.
fn save(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut part = file.as_os_str().to_owned();
    part.push(".part");
    // One that was left behind is of no use, and may be a link to elsewhere.
    match fs::remove_file(&part) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut new = fs::File::options().write(true).create_new(true).mode(0o600).open(&part)?;
    let written = new.write_all(bytes).and_then(|()| new.sync_all()).and_then(|()| fs::rename(&part, file));
    if written.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&part);
    }
    written
}

/// A JSON array of strings.
fn strings(items: &[&str]) -> Vec<u8> {
    let mut out = b"[".to_vec();
    for (count, item) in items.iter().enumerate() {
        if count > 0 {
            out.push(b',');
        }
        write_string(&mut out, item);
    }
    out.push(b']');
    out
}

/// Lets these nodes vote, and no others.
fn vote(invocation: &Invocation, voters: &[String]) -> Outcome {
    let voters: Vec<&str> = voters.iter().map(String::as_str).collect();
    change(invocation, "/change-membership", &strings(&voters))
}

/// Asks for a change of the cluster, and waits for it.
fn change(invocation: &Invocation, path: &str, body: &[u8]) -> Outcome {
    let mut ask = Ask::post(path.to_owned()).body(body);
    ask.wait = CHANGE_TIME_MAX;
    Node::connect(invocation)?.ask(ask)?;
    Ok(Exit::Done)
}

/// Who belongs to the cluster, as its leader knows it.
struct Cluster {
    /// The id of the leader, if there is one.
    leader: Option<String>,
    /// The ids of those that vote; while one membership gives way to another, of both.
    configs: Vec<Vec<String>>,
    /// The id and the address of each.
    members: Vec<(String, String)>,
}

impl Cluster {
    fn ask(invocation: &Invocation) -> Result<Self, Failure> {
        let of = |mut node: Node<'_>| {
            let reply = node.get("/metrics")?;
            Self::read(map::object(&reply)?).ok_or_else(strange)
        };
        let asked = of(Node::connect(invocation)?)?;
        // Another node may not know of the last change yet, and to build upon what it says would undo that one.
        let leader = asked.members.iter().find(|(id, _)| Some(id) == asked.leader.as_ref());
        let Some((_, addr)) = leader else {
            return Err(Failure::new(
                Exit::Unavailable,
                "the asked node knows of no leader; try again, or ask another",
            ));
        };
        let addr = values::tcp_address(addr.as_ref()).map_err(|_| strange())?;
        of(Node::connect_to(&addr, invocation)?)
    }

    fn read(metrics: Object<'_>) -> Option<Self> {
        let inside = |object, name| find(object, name).and_then(map::as_object);
        let membership = inside(inside(metrics, "membership_config")?, "membership")?;
        let Value::Array(configs) = find(membership, "configs")? else { return None };
        let configs = configs.items().map(|voters| {
            let Value::Array(voters) = voters else { return None };
            Some(voters.items().filter_map(string).collect())
        });
        let configs = configs.collect::<Option<_>>()?;
        let nodes = inside(membership, "nodes")?.members().into_iter();
        let members = nodes.map(|(id, node)| {
            let addr = find(map::as_object(node)?, "addr").and_then(string)?;
            Some((id.into_owned(), addr))
        });
        let leader = find(metrics, "current_leader").and_then(string);
        Some(Self { leader, configs, members: members.collect::<Option<_>>()? })
    }

    /// The ids of those that vote, or will when the change under way is done.
    fn voters(&self) -> &[String] {
        self.configs.last().map_or(&[], Vec::as_slice)
    }

    /// The id of the member that is meant by its id or its address.
    fn find(&self, name: &str) -> Result<String, Failure> {
        let found = self.members.iter().find(|(id, addr)| id == name || addr == name);
        found.map(|(id, _)| id.clone()).ok_or_else(|| {
            let known: Vec<String> = self.members.iter().map(|(id, addr)| format!("{id} at {addr}")).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            Failure::new(Exit::NotThere, format!("{name:?} is no member; members: {known}"))
        })
    }
}

fn string(value: Value<'_>) -> Option<String> {
    if let Value::String(text) = value { Some(text.into_owned()) } else { None }
}
