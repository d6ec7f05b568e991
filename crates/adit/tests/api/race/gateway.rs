//! Races about gateway endpoints and their route tables.

use serde_json::json;

use super::{boxed, call, planes, together, winners};
use crate::{
    agreement::agrees,
    app::{ENDPOINTS, OTHER_VPC, Reply, SERVICES, TestApp, text},
    gateway_endpoint::{gateway_body, gateway_endpoint, led},
    operator::public_service::public_gateway,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_route_table_is_one_endpoint_s_of_a_service() {
    let app = TestApp::start().await;
    let planes = planes(&app, &app.other);
    let (default, further) = (
        app.other.default_table(OTHER_VPC).await,
        app.other.route_table(OTHER_VPC).await,
    );
    for round in 0..60 {
        let tasks = (0..4).map(|n| {
            // Those that name both tables get both or none.
            let body = match (round + n) % 3 {
                0 => gateway_body(&[]),
                1 => gateway_body(&[&default, &further]),
                _ => gateway_body(&[&further]),
            };
            call(planes[n % 2].clone(), "POST", ENDPOINTS.into(), Some(body))
        });
        let won = winners(together(tasks).await, "2039");
        assert!((1..=2).contains(&won.len()), "{won:?}");
        for id in &won {
            let path = format!("{ENDPOINTS}/{id}");
            app.other.until(&path, |r| r.body["status"] == "accepted").await;
            app.other.delete(&path).await.no_content();
        }
    }
    agrees(&app.running.app).await;
    for table in [&default, &further] {
        assert_eq!(led(&app.other, table).await, []);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_route_table_is_not_given_to_two_by_changes() {
    let app = TestApp::start().await;
    let planes = planes(&app, &app.other);
    let mut tables = Vec::new();
    for _ in 0..3 {
        tables.push(app.other.route_table(OTHER_VPC).await);
    }
    let [a, b, wanted] = [0, 1, 2].map(|n| tables[n].clone());
    let first = gateway_endpoint(&app.other, &gateway_body(&[&a]), "accepted").await;
    let second = gateway_endpoint(&app.other, &gateway_body(&[&b]), "accepted").await;
    for _ in 0..40 {
        let change = |n: usize, id: &str, own: &str| {
            let body = json!({"routetables": [own, wanted]});
            let path = format!("{ENDPOINTS}/{id}/routetables");
            call(planes[n].clone(), "PUT", path, Some(body))
        };
        let replies = together([change(0, &first, &a), change(1, &second, &b)]).await;
        let lost = replies.iter().filter(|r| r.status == 400);
        assert_eq!(lost.map(Reply::refused).collect::<Vec<_>>(), [(400, "2039")]);
        let winner = if replies[0].status == 200 { &first } else { &second };
        assert_eq!(led(&app.other, &wanted).await[0].1, *winner);
        for (id, own) in [(&first, &a), (&second, &b)] {
            let body = json!({"routetables": [own]});
            app.other
                .put(&format!("{ENDPOINTS}/{id}/routetables"), &body)
                .await
                .ok();
        }
        assert_eq!(led(&app.other, &wanted).await, []);
    }
    agrees(&app.running.app).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_gateway_endpoint_lives_on_a_service_that_is_gone() {
    let app = TestApp::start().await;
    let planes = planes(&app, &app.other);
    let table = app.other.route_table(OTHER_VPC).await;
    for n in 0..60 {
        let service = public_gateway(&app, "race").await;
        let mut bodies = [gateway_body(&[]), gateway_body(&[&table])];
        bodies
            .iter_mut()
            .for_each(|body| body["endpoint_service_id"] = json!(service));
        let [one, two] = bodies.map(|body| call(planes[n % 2].clone(), "POST", ENDPOINTS.into(), Some(body)));
        let path = format!("/admin/v1/services/{service}");
        let delete = call(app.operator.clone(), "DELETE", path.clone(), None);
        let mut replies = together([boxed(delete), boxed(one), boxed(two)]).await;
        let deleted = replies.remove(0);
        let (made, refused): (Vec<_>, Vec<_>) = replies.iter().partition(|r| r.status == 200);
        for reply in refused {
            let told = [(400, "2003"), (400, "2004")];
            assert!(told.contains(&reply.refused()), "{}", reply.text);
        }
        if deleted.status == 204 {
            assert!(made.is_empty());
        } else {
            assert_eq!(deleted.refused(), (400, "3006"));
            assert!(!made.is_empty());
            for reply in made {
                let path = format!("{ENDPOINTS}/{}", text(&reply.body["id"]));
                app.other.delete(&path).await.no_content();
            }
            app.operator.delete(&path).await.no_content();
        }
        let described = format!("{SERVICES}/describe?id={service}");
        app.other.until_gone(&described).await;
    }
    agrees(&app.running.app).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_gateway_endpoint_lives_behind_a_table_or_in_a_vpc_that_is_gone() {
    let app = TestApp::start().await;
    let planes = planes(&app, &app.other);
    for round in 0..60 {
        let (vpc, subnet) = app.other.vpc("10.9.0.0/16", "10.9.0.0/24").await;
        app.other
            .delete(&format!("vpcs/{vpc}/subnets/{subnet}"))
            .await
            .no_content();
        let table = app.other.route_table(&vpc).await;
        let mut body = gateway_body(&[&table]);
        body["vpc_id"] = json!(vpc);
        let path = match round % 2 {
            0 => format!("routetables/{table}"),
            _ => format!("vpcs/{vpc}"),
        };
        let tasks = [
            call(app.other.clone(), "DELETE", path.clone(), None),
            call(planes[round % 2].clone(), "POST", ENDPOINTS.into(), Some(body)),
        ];
        let replies = together(tasks).await;
        match (replies[0].status, replies[1].status) {
            (204, 400 | 404) => {
                let told = [(404, "4030"), (400, "2001")];
                assert!(told.contains(&replies[1].refused()), "{}", replies[1].text);
            }
            (409, 200) => {
                let endpoint = format!("{ENDPOINTS}/{}", text(&replies[1].body["id"]));
                app.other
                    .until(&endpoint, |r| r.body["status"] == "accepted")
                    .await;
                app.other.delete(&endpoint).await.no_content();
                app.other.delete(&path).await.no_content();
            }
            _ => panic!("{replies:?}"),
        }
        if round % 2 == 0 {
            app.other.delete(&format!("vpcs/{vpc}")).await.no_content();
        }
    }
    agrees(&app.running.app).await;
}
