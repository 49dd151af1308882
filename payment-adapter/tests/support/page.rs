//! What a browser does at the simulators' pages. Tests of other rooms include this file by its path.

use serde_json::Value;

/// Opens the payment page `page` of `provider` (the simulator at `at`; `method` is Toss' own), presses a button, and
/// answers where the browser is sent back to.
pub async fn press(
    http: &reqwest::Client,
    at: &str,
    page: &str,
    (provider, method): (&str, &str),
    action: &str,
) -> String {
    if provider == "kakaopay" {
        return pressed(http, page, action).await;
    }
    let html = http.get(page).send().await.unwrap().text().await.unwrap();
    let from = html.find("id=\"checkout\"").map(|at| at + html[at..].find('>').unwrap() + 1).unwrap();
    let data: Value = serde_json::from_str(&html[from..from + html[from..].find("</script>").unwrap()]).unwrap();
    let text = |name: &str| data[name].as_str().unwrap().to_owned();
    let pay_url = if provider == "toss" {
        let form = [
            ("client_key", text("clientKey")),
            ("method", method.to_owned()),
            ("amount", data["amount"]["value"].to_string()),
            ("currency", data["amount"]["currency"].as_str().unwrap().to_owned()),
            ("order_id", text("orderId")),
            ("order_name", text("orderName")),
            ("success_url", text("successUrl")),
            ("fail_url", text("failUrl")),
        ];
        let request = http.post(format!("{at}/toss/sdk/payments")).form(&form);
        let opened: Value = request.header("accept", "application/json").send().await.unwrap().json().await.unwrap();
        opened["pay_url"].as_str().unwrap_or_else(|| panic!("{opened}")).to_owned()
    } else {
        let secret = text("clientSecret");
        let intent = secret.split("_secret").next().unwrap();
        let back: String = text("approveUrl").bytes().map(|b| format!("%{b:02X}")).collect();
        format!("{at}/stripe/pay/{intent}?client_secret={secret}&return_url={back}")
    };
    pressed(http, &pay_url, action).await
}

async fn pressed(http: &reqwest::Client, url: &str, action: &str) -> String {
    let response = http.post(url).form(&[("action", action)]).send().await.unwrap();
    assert_eq!(response.status(), 303, "{url}");
    response.headers()["location"].to_str().unwrap().to_owned()
}
