use tokio::net::TcpListener;

use super::super::certificates::Certificates;
use super::super::proxy::Limits;
use super::super::serve::tls;
use super::super::tests::Nobody;
use super::*;

const NODE: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// A port that is free, and one that is taken.
async fn ports() -> (u16, TcpListener) {
    let bind = || TcpListener::bind((NODE, 0));
    let (free, taken) = (bind().await.expect("a port"), bind().await.expect("a port"));
    (free.local_addr().expect("its address").port(), taken)
}

#[test]
fn ports_that_are_given_are_the_only_ones() {
    let given = |http, https| tries(Ports { http, https });
    assert_eq!(given(None, None), [vec![80, 8080], vec![443, 8443]]);
    assert_eq!(given(Some(81), None), [vec![81], vec![443, 8443]]);
    assert_eq!(given(None, Some(444)), [vec![80, 8080], vec![444]]);
    // Nor is one taken from the other, as it would be by whichever is opened first.
    assert_eq!(given(None, Some(8080)), [vec![80], vec![8080]]);
    assert_eq!(given(None, Some(80)), [vec![8080], vec![80]]);
    assert_eq!(given(Some(8443), None), [vec![8443], vec![443]]);
    assert_eq!(given(Some(443), None), [vec![443], vec![8443]]);
}

#[tokio::test]
async fn open_while_they_are_wanted() {
    let certificates = Arc::new(Certificates::new().expect("certificates"));
    let tls = tls(certificates).expect("TLS");
    let proxy = Arc::new(Proxy::new(Arc::new(Nobody), Limits::default()));
    let (free, taken) = ports().await;
    let busy = taken.local_addr().expect("its address").port();
    // The one in the clear falls back, the other cannot.
    let tries = [vec![busy, free], vec![busy]];
    let mut doors = Doors::new(NODE, tries, proxy, tls);
    assert_eq!(doors.ports(), Ports::default());
    let failed = doors.set(true).await;
    assert_eq!(failed.len(), 1);
    assert!(
        failed[0].starts_with(&format!("{NODE}:{busy}: ")),
        "{}",
        failed[0]
    );
    let http = Some(free);
    assert_eq!(doors.ports(), Ports { http, https: None });
    // Once it is free it is opened, and the other stays.
    drop(taken);
    assert_eq!(doors.set(true).await, Vec::<String>::new());
    let https = Some(busy);
    assert_eq!(doors.ports(), Ports { http, https });
    assert_eq!(doors.set(false).await, Vec::<String>::new());
    assert_eq!(doors.ports(), Ports::default());
    TcpListener::bind((NODE, free)).await.expect("free again");
}
