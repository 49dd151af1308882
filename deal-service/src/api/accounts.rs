//! `/accounts` and `/sessions`.

use crate::app::App;
use crate::request::{SignIn, SignUp};
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use service_kit::http::StrictJson;
use service_kit::problem::Problem;

/// `POST /accounts`
pub async fn sign_up(State(app): State<App>, StrictJson(form): StrictJson<SignUp>) -> Result<Response, Problem> {
    let account = app.sign_up(form).await?;
    Ok((StatusCode::CREATED, Json(account)).into_response())
}

/// `POST /sessions`
pub async fn sign_in(State(app): State<App>, StrictJson(form): StrictJson<SignIn>) -> Result<Response, Problem> {
    let session = app.sign_in(form).await?;
    let headers =
        [(header::SET_COOKIE, app.sessions().set_cookie(&session)), (header::CACHE_CONTROL, "no-store".to_owned())];
    Ok((StatusCode::CREATED, headers, Json(session)).into_response())
}

/// `DELETE /sessions`
pub async fn sign_out(State(app): State<App>) -> Response {
    (StatusCode::NO_CONTENT, [(header::SET_COOKIE, app.sessions().clear_cookie())]).into_response()
}
