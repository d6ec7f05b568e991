//! The plainest server that could answer the same: axum with one route, which sends bytes that it was given.

use axum::{
    Router,
    body::Bytes,
    http::{HeaderName, header},
    routing::get,
    serve::ListenerExt,
};

/// Serves each file at `/{index}`, as the API would, until killed; prints the port.
pub(crate) fn serve(files: &[&str]) {
    let mut router = Router::new();
    for (index, file) in files.iter().enumerate() {
        let body = Bytes::from(std::fs::read(file).unwrap());
        let headers = [
            (header::CONTENT_TYPE, "application/json"),
            (
                HeaderName::from_static("x-request-id"),
                "00000000-0000-4000-8000-000000000000",
            ),
        ];
        router = router.route(&format!("/{index}"), get(async move || (headers, body)));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("{}", listener.local_addr().unwrap().port());
        let listener = listener.tap_io(|stream| stream.set_nodelay(true).unwrap());
        axum::serve(listener, router).await.unwrap();
    });
}
