//! Kinds of operations, as the specification tells them apart: their names, which change something, which take preconditions,
//! which wait, and what they are about.

use bigbunny::node::request::{Operation, Target};

/// For counters and stories.
pub(crate) fn operation_name(operation: &Operation<'_>) -> &'static str {
    match operation {
        Operation::Create { .. } => "create",
        Operation::CreateNamed { .. } => "create-by-name",
        Operation::Put { .. } => "put",
        Operation::Lookup { .. } => "lookup",
        Operation::Read { .. } => "read",
        Operation::Authorize { .. } => "auth",
        Operation::Update { .. } => "update",
        Operation::BeginModify { .. } => "begin-modify",
        Operation::CompleteModify { .. } => "complete-modify",
        Operation::CancelModify { .. } => "cancel-modify",
        Operation::Delete { .. } => "delete",
        Operation::Increment { .. } => "increment",
        Operation::Touch { .. } => "touch",
        Operation::List { .. } => "list",
        Operation::DeletePrefix { .. } => "delete-prefix",
        Operation::ReadMany { .. } => "read-many",
        Operation::DeleteMany { .. } => "delete-many",
        Operation::Rename { .. } => "rename",
    }
}

/// Whether an operation changes anything; a read that moves an expiry does, and so does taking a lock.
pub(crate) fn changes(operation: &Operation<'_>) -> bool {
    match operation {
        Operation::Create { .. }
        | Operation::CreateNamed { .. }
        | Operation::Put { .. }
        | Operation::Update { .. }
        | Operation::BeginModify { .. }
        | Operation::CompleteModify { .. }
        | Operation::CancelModify { .. }
        | Operation::Delete { .. }
        | Operation::Increment { .. }
        | Operation::Touch { .. }
        | Operation::DeletePrefix { .. }
        | Operation::DeleteMany { .. }
        | Operation::Rename { .. } => true,
        Operation::Read { touch, .. } | Operation::Authorize { touch, .. } => touch.is_some(),
        Operation::Lookup { .. } | Operation::List { .. } | Operation::ReadMany { .. } => false,
    }
}

/// Whether an operation may come with preconditions: those that change one store.
pub(crate) fn takes_conditions(operation: &Operation<'_>) -> bool {
    match operation {
        Operation::Create { .. }
        | Operation::CreateNamed { .. }
        | Operation::Put { .. }
        | Operation::Update { .. }
        | Operation::BeginModify { .. }
        | Operation::CompleteModify { .. }
        | Operation::Delete { .. }
        | Operation::Increment { .. }
        | Operation::Touch { .. }
        | Operation::Rename { .. } => true,
        Operation::Lookup { .. }
        | Operation::Read { .. }
        | Operation::Authorize { .. }
        | Operation::CancelModify { .. }
        | Operation::List { .. }
        | Operation::DeletePrefix { .. }
        | Operation::ReadMany { .. }
        | Operation::DeleteMany { .. } => false,
    }
}

/// How long an operation waits for a lock; nothing for those that never do.
pub(crate) fn wait_ms(operation: &Operation<'_>) -> Option<u64> {
    match operation {
        Operation::Put { wait_ms, .. } | Operation::Update { wait_ms, .. } | Operation::BeginModify { wait_ms, .. } => {
            Some(*wait_ms)
        }
        Operation::Create { .. }
        | Operation::CreateNamed { .. }
        | Operation::Lookup { .. }
        | Operation::Read { .. }
        | Operation::Authorize { .. }
        | Operation::CompleteModify { .. }
        | Operation::CancelModify { .. }
        | Operation::Delete { .. }
        | Operation::Increment { .. }
        | Operation::Touch { .. }
        | Operation::List { .. }
        | Operation::DeletePrefix { .. }
        | Operation::ReadMany { .. }
        | Operation::DeleteMany { .. }
        | Operation::Rename { .. } => None,
    }
}

/// The one store an operation is about.
pub(crate) fn subject(operation: &Operation<'static>) -> Option<Target<'static>> {
    match operation {
        Operation::CreateNamed { name, .. }
        | Operation::Put { name, .. }
        | Operation::Lookup { name }
        | Operation::Rename { name, .. } => Some(Target::Name(name.clone())),
        Operation::Authorize { name, .. } => name.clone().map(Target::Name),
        Operation::Update { key, .. } => Some(Target::Key(*key)),
        Operation::Read { target, .. }
        | Operation::BeginModify { target, .. }
        | Operation::CompleteModify { target, .. }
        | Operation::CancelModify { target, .. }
        | Operation::Delete { target }
        | Operation::Increment { target, .. }
        | Operation::Touch { target, .. } => Some(target.clone()),
        Operation::Create { .. }
        | Operation::List { .. }
        | Operation::DeletePrefix { .. }
        | Operation::ReadMany { .. }
        | Operation::DeleteMany { .. } => None,
    }
}
