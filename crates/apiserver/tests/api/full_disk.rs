//! The disk beneath the store is full. Needs root, for a small disk.

use fv_apiserver::{ApiServer, ApiServerBuilder, Store};
use fv_testkit::SmallDisk;
use serde_json::json;

use crate::support::*;

async fn fill(server: &ApiServer) -> (usize, Answer) {
    for written in 0.. {
        let answer = post(server, MAPS, &config_map(&format!("m{written}"), &"x".repeat(200_000))).await;
        if !answer.code.is_success() {
            return (written, answer);
        }
    }
    unreachable!()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_disk_refuses_writes_says_so_and_recovers_with_room() {
    let disk = SmallDisk::new(12);
    let others = disk.path().join("others");
    std::fs::write(&others, vec![1; 4 << 20]).unwrap();
    let dir = disk.path().join("store");
    let server = ApiServerBuilder::new(Store::open(&dir).unwrap()).build().await.unwrap();
    let (written, refused) = fill(&server).await;
    let text = refused.fails(507, "InsufficientStorage");
    assert_eq!(text, "the store is read-only: its disk is full; free some space there");
    assert!(written > 3, "{written}");
    let readyz = get(&server, "/readyz").await;
    assert_eq!(readyz.code, 500);
    assert!(readyz.body.as_str().unwrap().contains("its disk is full"), "{}", readyz.body);
    assert_eq!(get(&server, "/livez").await.code, 200, "a restart would not help");
    // Whoever only reads notices nothing.
    let listed = get(&server, MAPS).await.ok();
    assert_eq!(listed["items"].as_array().unwrap().len(), written);

    std::fs::remove_file(&others).unwrap();
    post(&server, MAPS, &config_map("again", "1")).await.ok();
    assert_eq!(get(&server, "/readyz").await.code, 200);
    delete(&server, &format!("{MAPS}/m0"), &json!(null)).await.ok();
    drop(server);

    let server = ApiServerBuilder::new(Store::open(&dir).unwrap()).build().await.unwrap();
    let listed = get(&server, MAPS).await.ok();
    assert_eq!(listed["items"].as_array().unwrap().len(), written, "one more, one less");
}
