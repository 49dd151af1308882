//! `/login`, `/signup`, `POST /logout`.

use super::Shop;
use super::next::Next;
use super::problems::{status_of, words};
use super::sent::{Fields, Sent};
use super::text::Text;
use super::visit::{Frame, Tab, Visit, add_cookie};
use crate::request::{SignIn, SignUp};
use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use service_kit::problem::{Problem, Slug};

/// What stands in the fields of a sign-in or sign-up form, and what is wrong with it. Passwords are
/// never sent back.
#[derive(Debug, Clone, Default)]
pub(super) struct Entered {
    /// Where to go afterwards.
    pub next: Next,
    /// As typed.
    pub email: String,
    /// As typed.
    pub name: String,
    /// Beside the e-mail field.
    pub email_error: Option<&'static str>,
    /// Beside the password field.
    pub password_error: Option<&'static str>,
    /// Beside the name field.
    pub name_error: Option<&'static str>,
    /// Above the form: title and body of a problem that no field explains.
    pub alert: Option<(&'static str, &'static str)>,
}

impl Entered {
    /// An empty form.
    pub fn empty(next: Next) -> Self {
        Self { next, ..Self::default() }
    }
    fn kept(fields: &Fields) -> Self {
        Self {
            next: Next::parse(fields.get("next")),
            email: fields.get("email").to_owned(),
            name: fields.get("name").to_owned(),
            ..Self::default()
        }
    }
    /// Puts a refusal where the shopper can mend it.
    fn explain(mut self, visit: &Visit, problem: &Problem) -> Self {
        let t: &'static Text = visit.text();
        let named = |field: &str| {
            let errors = problem.extra.get("errors").and_then(|e| e.as_array());
            errors.is_some_and(|all| all.iter().any(|e| e.get("field").and_then(|f| f.as_str()) == Some(field)))
        };
        match problem.slug {
            Slug::WrongCredentials => self.password_error = Some(t.error_credentials),
            Slug::EmailTaken => self.email_error = Some(t.error_email_taken),
            _ => {
                self.email_error = named("email").then_some(t.error_email);
                self.password_error = named("password").then_some(t.error_password);
                self.name_error = named("name").then_some(t.error_name);
            }
        }
        if self.email_error.or(self.password_error).or(self.name_error).is_none() {
            let (title, body, _) = words(visit, problem);
            self.alert = Some((title, body));
        }
        self
    }
}

#[derive(Template)]
#[template(path = "login.html")]
pub(super) struct LoginPage {
    pub f: Frame,
    pub login: Entered,
}

#[derive(Template)]
#[template(path = "signup.html")]
pub(super) struct SignupPage {
    pub f: Frame,
    pub signup: Entered,
}

/// The sign-in form; who is signed in already goes on.
pub async fn login(visit: Visit) -> Response {
    let next = visit.param("next").map(Next::parse).unwrap_or_default();
    if visit.session.is_some() {
        return visit.redirect(&next.to_string());
    }
    visit.page(StatusCode::OK, &LoginPage { f: visit.frame(Tab::Login), login: Entered::empty(next) })
}

/// The sign-up form; who is signed in already goes on.
pub async fn signup(visit: Visit) -> Response {
    let next = visit.param("next").map(Next::parse).unwrap_or_default();
    if visit.session.is_some() {
        return visit.redirect(&next.to_string());
    }
    visit.page(StatusCode::OK, &SignupPage { f: visit.frame(Tab::Signup), signup: Entered::empty(next) })
}

/// Signs in and goes on to `next`.
pub async fn sign_in(State(shop): State<Shop>, sent: Sent) -> Response {
    let Sent { visit, fields } = sent;
    let entered = Entered::kept(&fields);
    let form = SignIn { email: fields.get("email").to_owned(), password: fields.get("password").to_owned() };
    match start(&shop, &visit, form, entered.next).await {
        Ok(response) => response,
        Err(problem) => {
            let page = LoginPage { f: visit.frame(Tab::Login), login: entered.explain(&visit, &problem) };
            visit.page(status_of(&problem), &page)
        }
    }
}

/// Makes the account, signs in and goes on to `next`.
pub async fn sign_up(State(shop): State<Shop>, sent: Sent) -> Response {
    let Sent { visit, fields } = sent;
    let entered = Entered::kept(&fields);
    let text = |name: &str| fields.get(name).to_owned();
    let made = shop.app.sign_up(SignUp { email: text("email"), password: text("password"), name: text("name") }).await;
    if let Err(problem) = made {
        let page = SignupPage { f: visit.frame(Tab::Signup), signup: entered.explain(&visit, &problem) };
        return visit.page(status_of(&problem), &page);
    }
    let form = SignIn { email: text("email"), password: text("password") };
    match start(&shop, &visit, form, entered.next).await {
        Ok(response) => response,
        // The account exists: what is left to do is to sign in.
        Err(problem) => {
            let page = LoginPage { f: visit.frame(Tab::Login), login: entered.explain(&visit, &problem) };
            visit.page(status_of(&problem), &page)
        }
    }
}

async fn start(shop: &Shop, visit: &Visit, form: SignIn, next: Next) -> Result<Response, Problem> {
    let session = shop.app.sign_in(form).await?;
    let mut response = visit.redirect(&next.to_string());
    add_cookie(response.headers_mut(), &shop.app.sessions().set_cookie(&session));
    Ok(response)
}

/// Forgets the session. Pressing twice does no harm.
pub async fn sign_out(State(shop): State<Shop>, sent: Sent) -> Response {
    let mut response = sent.visit.redirect("/deals");
    add_cookie(response.headers_mut(), &shop.app.sessions().clear_cookie());
    response
}
