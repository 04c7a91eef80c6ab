//! What requests do with a repository, which a token is for.

/// What a request does with a repository. Each has a token of its own: one to pull is never used to push.
///
/// Source: CNCF distribution, `docs/content/spec/auth/scope.md`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Access {
    /// Reads it.
    Pull,
    /// Reads and writes it.
    Push,
    /// Reads and writes it, and mounts blobs of this other repository.
    Mount(String),
    /// Reads and writes it, and deletes what it wrote.
    Delete,
}

impl Access {
    /// The scopes of a token for a repository; `asked` are those that the registry names, separated by spaces.
    pub(super) fn scopes(&self, repository: &str, asked: &str) -> Vec<String> {
        let asked = asked.split_whitespace().map(ToOwned::to_owned);
        let mut scopes = match self {
            Access::Pull => Vec::new(),
            Access::Push | Access::Mount(_) => vec![format!("repository:{repository}:pull,push")],
            Access::Delete => vec![format!("repository:{repository}:pull,push,delete")],
        };
        if let Access::Mount(from) = self {
            scopes.push(format!("repository:{from}:pull"));
        }
        let resource = |scope: &str| scope.rsplit_once(':').map(|(resource, _)| resource.to_string());
        for scope in asked {
            let is_known = scopes.iter().any(|known| resource(known) == resource(&scope));
            if !is_known || *self == Access::Pull {
                scopes.push(scope);
            }
        }
        if scopes.is_empty() {
            // Quay and Nexus name none.
            scopes.push(format!("repository:{repository}:pull"));
        }
        scopes
    }

    /// The right that it needs, in messages.
    pub(super) fn verb(&self) -> &'static str {
        match self {
            Access::Pull => "pull",
            Access::Push | Access::Mount(_) => "push",
            Access::Delete => "delete",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_for_what_the_request_does() {
        let mount = Access::Mount("lib/base".into());
        let both = "repository:lib/app:pull,push";
        for (access, asked, expected) in [
            (&Access::Pull, "", &["repository:lib/app:pull"][..]),
            (
                &Access::Pull,
                "repository:lib/app:pull x:y:z",
                &["repository:lib/app:pull", "x:y:z"],
            ),
            (&Access::Push, "", &[both]),
            // A registry asks for what the first request needs, which only reads.
            (&Access::Push, "repository:lib/app:pull", &[both]),
            (&Access::Push, "registry:catalog:*", &[both, "registry:catalog:*"]),
            (
                &Access::Delete,
                "repository:lib/app:delete",
                &["repository:lib/app:pull,push,delete"],
            ),
            (
                &mount,
                "repository:lib/app:push",
                &[both, "repository:lib/base:pull"],
            ),
        ] {
            assert_eq!(access.scopes("lib/app", asked), expected, "{access:?} {asked}");
        }
    }
}
