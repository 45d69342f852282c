//! Users, roles and permissions, and a client that proves itself again when its token has ended.

use etcd_client::{Client, ConnectOptions, Error, Permission};

use crate::told::{Told, header, text};

/// Who may what.
pub async fn users(told: &mut Told, client: &mut Client, address: &String) -> Result<(), Error> {
    for name in ["root", "anna"] {
        let added = client.user_add(name, "pass", None).await;
        told.step(&format!("user {name}"), added, |answer| {
            header(answer.header())
        });
    }
    for name in ["root", "reader"] {
        let added = client.role_add(name).await;
        told.step(&format!("role {name}"), added, |answer| {
            header(answer.header())
        });
    }
    let shared = Permission::read("shared/").with_prefix();
    let granted = client.role_grant_permission("reader", shared).await;
    told.step("reader may", granted, |answer| header(answer.header()));
    for (user, role) in [("root", "root"), ("anna", "reader"), ("anna", "nothing")] {
        let granted = client.user_grant_role(user, role).await;
        told.step(&format!("{user} is {role}"), granted, |answer| {
            header(answer.header())
        });
    }
    told.step("users", client.user_list().await, |answer| {
        answer.users().join("\n")
    });
    told.step("roles", client.role_list().await, |answer| {
        answer.roles().join("\n")
    });
    told.step("a user", client.user_get("anna").await, |answer| {
        answer.roles().join("\n")
    });
    told.step("a role", client.role_get("reader").await, |answer| {
        let all = answer.permissions();
        let shown = all.iter().map(|each| {
            format!(
                "{} {} {}",
                each.get_type(),
                text(each.key()),
                text(each.range_end())
            )
        });
        shown.collect::<Vec<_>>().join("\n")
    });
    told.step("enabled", client.auth_enable().await, |answer| {
        header(answer.header())
    });
    told.step(
        "nobody gets",
        client.get("shared/a", None).await,
        |answer| answer.count().to_string(),
    );
    let known = |name: &str, password: &str| Some(ConnectOptions::new().with_user(name, password));
    let wrong = Client::connect([address], known("anna", "wrong")).await;
    told.step("a wrong password", wrong, |_| "connected".to_owned());
    let mut anna = Client::connect([address], known("anna", "pass")).await?;
    let mut root = Client::connect([address], known("root", "pass")).await?;
    told.step(
        "root puts",
        root.put("shared/a", "1", None).await,
        |answer| header(answer.header()),
    );
    told.step("anna gets", anna.get("shared/a", None).await, |answer| {
        answer.count().to_string()
    });
    told.step(
        "anna puts",
        anna.put("shared/a", "2", None).await,
        |answer| header(answer.header()),
    );
    let changed = root.user_change_password("anna", "new").await;
    told.step("another password", changed, |answer| {
        header(answer.header())
    });
    told.step(
        "anna gets with a token that ended",
        anna.get("shared/a", None).await,
        |answer| answer.count().to_string(),
    );
    told.step("disabled", root.auth_disable().await, |answer| {
        header(answer.header())
    });
    told.step(
        "nobody gets again",
        client.get("shared/a", None).await,
        |answer| answer.count().to_string(),
    );
    Ok(())
}
