//! People and programs that a cluster knows by a certificate: made, listed, and taken back.
//!
//! A certificate says a user's name and nothing of what they may do; the cluster keeps their groups, and believes the
//! certificate while it keeps the user. Both ends of the calls share these types.

use http::Method;
use serde::{Deserialize, Serialize};

use crate::client::{json_request, plain_request};
use crate::{Client, Error};

/// Where users are listed and made; `/NAME` below it is one of them.
pub const USERS_PATH: &str = "/carob/v1/users";

/// The body of `POST /carob/v1/users`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewUser {
    /// The user's name: 1 to 63 letters, digits, `.`, `_`, `-` or `@`.
    pub name: String,
    /// The groups that the user is in. Of those that begin with `system:`, `system:masters` alone.
    #[serde(default)]
    pub groups: Vec<String>,
    /// PKCS #10 PEM; only its key and the proof of its possession count.
    pub csr: String,
}

/// The answer to [`NewUser`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// The user's certificate, PEM.
    pub certificate: String,
}

/// A user that the cluster knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The name.
    pub name: String,
    /// The groups.
    pub groups: Vec<String>,
    /// When the user was made (RFC 3339).
    pub created: String,
}

/// Every user, by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Users {
    /// The users.
    pub users: Vec<User>,
}

/// Makes a user. `client` must be an administrator's, as for all of these.
///
/// # Errors
/// 409 where there is one of this name, 400 for a name, a group or a request that cannot be; see [`Client::raw`].
pub async fn add(client: &Client, user: &NewUser) -> Result<Certificate, Error> {
    let http = json_request(Method::POST, USERS_PATH, "application/json", user)?;
    client.read(http).await
}

/// Lists the users.
///
/// # Errors
/// See [`Client::raw`].
pub async fn list(client: &Client) -> Result<Vec<User>, Error> {
    let all: Users = client.read(plain_request(Method::GET, USERS_PATH)?).await?;
    Ok(all.users)
}

/// Takes a user's certificate back.
///
/// # Errors
/// 404 where there is none of this name; see [`Client::raw`].
pub async fn revoke(client: &Client, name: &str) -> Result<User, Error> {
    let path = format!("{USERS_PATH}/{name}");
    client.read(plain_request(Method::DELETE, &path)?).await
}
