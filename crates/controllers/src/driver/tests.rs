use super::surviving;

#[tokio::test]
async fn work_that_panics_ends_alone() {
    assert_eq!(surviving(async { 1 }).await, Some(1));
    let panics = async {
        tokio::task::yield_now().await;
        let nothing: Option<u8> = None;
        nothing.expect("a test wants a panic")
    };
    assert_eq!(surviving(panics).await, None);
}
