//! Cedar. Nothing outside this file names it.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityId, EntityTypeName, EntityUid, Policy,
    PolicyId, PolicySet, RestrictedExpression, Schema, SchemaFragment, ValidationMode,
    ValidationWarning, Validator,
};
use fieldseal_model::{KeyName, Principal};
use miette::Diagnostic;

use crate::defaults::{MEMBERS_FILE, SCHEMA};
use crate::errors::{PolicyErrors, Problem, Source, whole_file};
use crate::load::NO_RULES;
use crate::members::{self, Members, is_name};
use crate::nesting;
use crate::outcome::{Outcome, Verdict};
use crate::request::{Request, Subject};

/// Most rules in one policy.
const MAX_RULES: usize = 10_000;

/// What a rule, or a part of it, says to a request.
pub(crate) enum Truth {
    /// It applies.
    Holds,
    /// It does not.
    Fails,
    /// It cannot be evaluated.
    Errs(String),
}

/// A rule as its author wrote it.
pub(crate) struct Written<'a> {
    pub(crate) name: &'a str,
    pub(crate) file: &'a str,
    pub(crate) line: usize,
    pub(crate) text: String,
    pub(crate) permits: bool,
    /// Cedar's JSON form of it.
    pub(crate) json: serde_json::Value,
}

/// Checked rules, ready to be evaluated.
pub(crate) struct Rules {
    schema: Schema,
    policies: PolicySet,
    /// File and line of each rule.
    places: BTreeMap<String, (String, usize)>,
    members: Members,
    types: Types,
    authorizer: Authorizer,
}

/// The types of the schema.
struct Types {
    role: EntityTypeName,
    principal: EntityTypeName,
    action: EntityTypeName,
    installation: EntityTypeName,
    key: EntityTypeName,
    field: EntityTypeName,
}

/// Where a rule stands.
struct Place<'a> {
    source: &'a Source,
    offset: usize,
}

impl Rules {
    /// Parses and checks everything. Whatever is wrong is added to `problems`.
    pub(crate) fn parse(
        sources: &[Source],
        problems: &mut Vec<Problem>,
    ) -> Result<Self, PolicyErrors> {
        let schema = built_in_schema()?;
        // What is missing from a file that was not read is not missing from the policy.
        let unread = !problems.is_empty();
        let members_file = sources.iter().find(|s| s.name == MEMBERS_FILE);
        let mut members = members_file.map(|s| Members::parse(s, problems)).unwrap_or_default();
        members.partial |= unread;
        let mut rules = BTreeMap::new();
        let mut found = false;
        let mut partial = unread;
        for source in sources.iter().filter(|s| s.name.ends_with(".cedar")) {
            found = true;
            partial |= !parse_rules(source, &mut rules, problems);
        }
        if !found && !unread {
            problems.push(whole_file("policy", NO_RULES));
        }
        if rules.len() > MAX_RULES {
            let message = format!("{} rules, and at most {MAX_RULES} are allowed", rules.len());
            problems.push(whole_file("policy", message));
        }
        if members_file.is_none() && !partial && rules.values().any(|(p, _)| names_role(p)) {
            members.partial = true;
            problems.push(members::missing(sources));
        }
        let members_file = members_file.filter(|_| !partial);
        check_names(&rules, &members, members_file, problems);
        let policies = PolicySet::from_policies(rules.values().map(|(policy, _)| policy.clone()))
            .map_err(|e| internal(&e))?;
        validate(&schema, &policies, &rules, problems);
        let types = Types::new()?;
        let places = rules.iter().map(|(name, (_, place))| {
            let found = place.source.problem_at(place.offset, "");
            (name.clone(), (found.file, found.line))
        });
        let places = places.collect();
        Ok(Self { schema, policies, places, members, types, authorizer: Authorizer::new() })
    }

    /// Every rule as it was written, by name.
    pub(crate) fn written(&self) -> impl Iterator<Item = Written<'_>> {
        self.places.iter().filter_map(|(name, (file, line))| {
            let policy = self.policies.policy(&PolicyId::new(name))?;
            let (text, json) = (policy.to_string(), policy.to_json().ok()?);
            let permits = policy.effect() == cedar_policy::Effect::Permit;
            Some(Written { name, file, line: *line, text, permits, json })
        })
    }

    /// Everybody who has a role.
    pub(crate) fn principals(&self) -> impl Iterator<Item = &Principal> {
        self.members.by_principal.keys()
    }

    /// The roles of a principal, by name.
    pub(crate) fn roles(&self, principal: &Principal) -> Vec<String> {
        let mut roles = self.members.by_principal.get(principal).cloned().unwrap_or_default();
        roles.sort();
        roles
    }

    /// Asks every rule, and names all that had a part in the answer; `None` if the request does not
    /// fit the schema.
    pub(crate) fn verdict(&self, request: &Request<'_>) -> Option<Verdict> {
        let (query, entities) = self.query(request)?;
        let response = self.authorizer.is_authorized(&query, &self.policies, &entities);
        let diagnostics = response.diagnostics();
        let mut decided: Vec<String> = diagnostics.reason().map(ToString::to_string).collect();
        let mut failed: Vec<_> = diagnostics
            .errors()
            .map(|cedar_policy::AuthorizationError::PolicyEvaluationError(e)| {
                (e.policy_id().to_string(), described(e))
            })
            .collect();
        decided.sort();
        failed.sort();
        Some(Verdict { decided, failed })
    }

    /// What a rule in Cedar's JSON form says to a request, and its text.
    pub(crate) fn probe(
        &self,
        rule: serde_json::Value,
        request: &Request<'_>,
    ) -> Option<(Truth, String)> {
        let policy = Policy::from_json(None, rule).ok()?;
        let text = policy.to_string();
        let (query, entities) = self.query(request)?;
        let alone = PolicySet::from_policies([policy]).ok()?;
        let response = self.authorizer.is_authorized(&query, &alone, &entities);
        let truth = match response.diagnostics().errors().next() {
            Some(cedar_policy::AuthorizationError::PolicyEvaluationError(error)) => {
                Truth::Errs(described(error.inner()))
            }
            None if response.decision() == Decision::Allow => Truth::Holds,
            None => Truth::Fails,
        };
        Some((truth, text))
    }

    /// Asks every rule.
    pub(crate) fn evaluate(&self, request: &Request<'_>) -> Outcome {
        let Some((query, entities)) = self.query(request) else { return Outcome::Failed(None) };
        let response = self.authorizer.is_authorized(&query, &self.policies, &entities);
        let diagnostics = response.diagnostics();
        // Several rules may decide: the first by name is named, so that the same request always
        // names the same rule.
        let first = |ids: &mut dyn Iterator<Item = &PolicyId>| {
            ids.map(AsRef::<str>::as_ref).min().map(Arc::<str>::from)
        };
        let decided = first(&mut diagnostics.reason());
        let failed = first(&mut diagnostics.errors().map(|e| match e {
            cedar_policy::AuthorizationError::PolicyEvaluationError(e) => e.policy_id(),
        }));
        match (response.decision(), decided, failed) {
            (Decision::Deny, Some(rule), _) => Outcome::Forbidden(rule),
            (_, _, Some(rule)) => Outcome::Failed(Some(rule)),
            (Decision::Allow, Some(rule), None) => Outcome::Permitted(rule),
            (Decision::Allow, None, None) => Outcome::Failed(None),
            (Decision::Deny, None, None) => Outcome::NoRule,
        }
    }

    /// The request in Cedar's words; `None` if it does not fit the schema.
    fn query(&self, request: &Request<'_>) -> Option<(cedar_policy::Request, Entities)> {
        let mut entities = Vec::with_capacity(4);
        let principal = self.principal(request.principal, &mut entities)?;
        let resource = self.resource(request, &mut entities)?;
        let mut context = vec![
            ("purpose".to_owned(), text(request.reason.purpose.as_str())),
            ("ticket".to_owned(), text(request.reason.ticket.as_str())),
        ];
        if request.table.is_some() {
            let user = request.reason.end_user.as_ref();
            let has = RestrictedExpression::new_bool(user.is_some());
            let (issuer, subject) = user.map_or(("", ""), |user| (user.issuer(), user.subject()));
            context.push(("has_end_user".to_owned(), has));
            context.push(("end_user_issuer".to_owned(), text(issuer)));
            context.push(("end_user".to_owned(), text(subject)));
        }
        if request.table.is_some() || Subject::of(request.action) == Subject::Partition {
            context.push(("partition".to_owned(), text(request.partition.as_str())));
        }
        let action = uid(&self.types.action, request.action.as_str());
        let context = Context::from_pairs(context).ok()?;
        let schema = Some(&self.schema);
        let query =
            cedar_policy::Request::new(principal, action, resource, context, schema).ok()?;
        Some((query, Entities::from_entities(entities, schema).ok()?))
    }

    fn principal(&self, principal: &Principal, entities: &mut Vec<Entity>) -> Option<EntityUid> {
        let id = uid(&self.types.principal, principal.as_str());
        let roles: Vec<EntityUid> = self
            .members
            .by_principal
            .get(principal)
            .map(|roles| roles.iter().map(|r| uid(&self.types.role, r)).collect())
            .unwrap_or_default();
        // The kind is what stands before the colon: spiffe, dns, cn or local.
        let kind = principal.as_str().split_once(':')?.0;
        let attributes = [("kind".to_owned(), text(kind))];
        entities.extend(roles.iter().map(|r| bare(r.clone())));
        entities.push(entity(id.clone(), attributes, roles)?);
        Some(id)
    }

    fn resource(&self, request: &Request<'_>, entities: &mut Vec<Entity>) -> Option<EntityUid> {
        let key = match (request.key, request.table, request.column) {
            (None, None, None) => {
                let id = uid(&self.types.installation, "this");
                entities.push(bare(id.clone()));
                return Some(id);
            }
            (Some(key), _, _) => key,
            _ => return None,
        };
        let key_id = uid(&self.types.key, key.as_str());
        entities.push(entity(key_id.clone(), [("name".to_owned(), text(key.as_str()))], [])?);
        let (table, column) = match (request.table, request.column) {
            (None, None) => return Some(key_id),
            (Some(table), Some(column)) => (table.as_str(), column.as_str()),
            _ => return None,
        };
        let name = format!("{key}/{}/{}", escaped(table), escaped(column));
        let id = uid(&self.types.field, &name);
        let attributes = [
            ("key".to_owned(), text(key.as_str())),
            ("table".to_owned(), text(table)),
            ("column".to_owned(), text(column)),
        ];
        entities.push(entity(id.clone(), attributes, [key_id])?);
        Some(id)
    }
}

impl Types {
    fn new() -> Result<Self, PolicyErrors> {
        let named = |name: &str| EntityTypeName::from_str(name).map_err(|e| internal(&e));
        Ok(Self {
            role: named("Role")?,
            principal: named("Principal")?,
            action: named("Action")?,
            installation: named("Installation")?,
            key: named("Key")?,
            field: named("Field")?,
        })
    }
}

fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

fn text(value: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(value.to_owned())
}

fn bare(id: EntityUid) -> Entity {
    Entity::new_no_attrs(id, std::collections::HashSet::new())
}

fn entity(
    id: EntityUid,
    attributes: impl IntoIterator<Item = (String, RestrictedExpression)>,
    parents: impl IntoIterator<Item = EntityUid>,
) -> Option<Entity> {
    let attributes = attributes.into_iter().collect();
    Entity::new(id, attributes, parents.into_iter().collect()).ok()
}

/// A table or column within a field's name, so that different fields have different names.
fn escaped(part: &str) -> String {
    part.replace('%', "%25").replace('/', "%2F")
}

fn internal(error: &dyn std::fmt::Display) -> PolicyErrors {
    PolicyErrors::one(whole_file("policy", format!("the policy cannot be prepared: {error}")))
}

fn built_in_schema() -> Result<Schema, PolicyErrors> {
    Schema::from_cedarschema_str(SCHEMA).map(|(schema, _)| schema).map_err(|e| internal(&e))
}

/// The place of the first label of a Cedar error.
fn span_of(error: &dyn Diagnostic) -> Option<std::ops::Range<usize>> {
    let label = error.labels()?.next()?;
    Some(label.offset()..label.offset() + label.len())
}

fn described(error: &dyn Diagnostic) -> String {
    match error.help() {
        Some(help) => format!("{error}; {help}"),
        None => error.to_string(),
    }
}

/// The schema in the directory is a copy for editors: policies are checked against the one that is
/// built in. One that says something else, as an earlier version's does, misleads whoever edits.
pub(crate) fn check_schema_file(source: &Source) -> Option<Problem> {
    if source.text == SCHEMA {
        return None;
    }
    if let Some(problem) = nesting::problem(source) {
        return Some(problem);
    }
    let theirs = match SchemaFragment::from_cedarschema_str(&source.text) {
        Ok((fragment, _)) => fragment.to_json_value().ok(),
        Err(e) => return Some(source.problem(span_of(&e), described(&e))),
    };
    let ours = SchemaFragment::from_cedarschema_str(SCHEMA).ok();
    let ours = ours.and_then(|(fragment, _)| fragment.to_json_value().ok());
    if theirs.is_some() && theirs == ours {
        return None;
    }
    let lines = source.text.split_inclusive('\n').zip(SCHEMA.split_inclusive('\n'));
    let offset = lines.take_while(|(line, ours)| line == ours).map(|(line, _)| line.len()).sum();
    let message = "the schema differs from this version's from here on; remove the file or \
                   replace it with the one that `fieldseal init` writes";
    Some(source.problem_at(offset, message))
}

/// Parses one file's rules under their own names. False if it is not Cedar, so that no rule of it is
/// known.
fn parse_rules<'a>(
    source: &'a Source,
    rules: &mut BTreeMap<String, (Policy, Place<'a>)>,
    problems: &mut Vec<Problem>,
) -> bool {
    if let Some(problem) = nesting::problem(source) {
        problems.push(problem);
        return false;
    }
    let set = match PolicySet::from_str(&source.text) {
        Ok(set) => set,
        Err(errors) => {
            problems.extend(errors.iter().map(|e| source.problem(span_of(e), described(e))));
            return false;
        }
    };
    for template in set.templates() {
        let text = template.to_string();
        let offset = source.text.find(&text).unwrap_or(0);
        problems.push(source.problem_at(offset, "a rule must not have slots (?principal)"));
    }
    // Cedar numbers the rules of a text as policy0, policy1, … and keeps each one's text.
    let mut numbered: Vec<(usize, &Policy)> = set
        .policies()
        .filter_map(|p| Some((p.id().to_string().strip_prefix("policy")?.parse().ok()?, p)))
        .collect();
    numbered.sort_by_key(|(number, _)| *number);
    let mut cursor = 0;
    for (_, policy) in numbered {
        let text = policy.to_string();
        let found = source.text.get(cursor..).and_then(|rest| rest.find(&text));
        let offset = cursor + found.unwrap_or(0);
        cursor = offset + if found.is_some() { text.len() } else { 0 };
        let Some(name) = policy.annotation("id").filter(|id| is_name(id)) else {
            let message = "a rule must have a name: @id(\"…\") of 1 to 64 characters of a-z, 0-9 \
                           and -, beginning with a letter";
            problems.push(source.problem_at(offset, message));
            continue;
        };
        if let Some((_, first)) = rules.get(name) {
            let first = first.source.problem_at(first.offset, "");
            let message = format!(
                "the name {name} is taken by the rule at {}:{}; give this one another",
                first.file, first.line
            );
            problems.push(source.problem_at(offset, message));
            continue;
        }
        let named = policy.new_id(PolicyId::new(name));
        rules.insert(name.to_owned(), (named, Place { source, offset }));
    }
    true
}

fn names_role(rule: &Policy) -> bool {
    rule.entity_literals().iter().any(|literal| literal.type_name().to_string() == "Role")
}

/// Names in rules that no request could ever have, and roles that only one side knows. Without
/// `members_file` nobody asks whether its roles stand in rules.
fn check_names(
    rules: &BTreeMap<String, (Policy, Place<'_>)>,
    members: &Members,
    members_file: Option<&Source>,
    problems: &mut Vec<Problem>,
) {
    let mut named_roles = std::collections::BTreeSet::new();
    for (policy, place) in rules.values() {
        for literal in policy.entity_literals() {
            let id: &str = literal.id().as_ref();
            let kind = literal.type_name().to_string();
            let message = match kind.as_str() {
                "Role" => {
                    named_roles.insert(id.to_owned());
                    (!members.partial && !members.roles.contains_key(id)).then(|| {
                        format!("{MEMBERS_FILE} does not name the role {id:?}; add {id} = []")
                    })
                }
                "Principal" => Principal::parse(id).err().map(|e| e.to_string()),
                "Key" => KeyName::parse(id).err().map(|e| e.to_string()),
                "Installation" => (id != "this")
                    .then(|| "there is one installation, Installation::\"this\"".to_owned()),
                _ => None,
            };
            if let Some(message) = message {
                let rest = place.source.text.get(place.offset..).unwrap_or_default();
                let offset = place.offset + rest.find(&literal.to_string()).unwrap_or(0);
                problems.push(place.source.problem_at(offset, message));
            }
        }
    }
    let Some(file) = members_file else { return };
    for (role, span) in &members.roles {
        if !named_roles.contains(role) {
            let message = format!("no rule names the role {role}; correct the name or remove it");
            problems.push(file.problem_at(span.start, message));
        }
    }
}

/// Checks the rules against the schema. A rule that can never apply, or that hides text from its
/// reader, is refused as well.
fn validate(
    schema: &Schema,
    policies: &PolicySet,
    rules: &BTreeMap<String, (Policy, Place<'_>)>,
    problems: &mut Vec<Problem>,
) {
    let result = Validator::new(schema.clone()).validate(policies, ValidationMode::Strict);
    let mut report = |id: &PolicyId, error: &dyn Diagnostic| {
        let Some((_, place)) = rules.get(AsRef::<str>::as_ref(id)) else {
            problems.push(whole_file("policy", described(error)));
            return;
        };
        let offset = span_of(error).map_or(place.offset, |span| span.start);
        problems.push(place.source.problem_at(offset, described(error)));
    };
    for error in result.validation_errors() {
        report(error.policy_id(), error);
    }
    for warning in result.validation_warnings() {
        // A table or a column may be named in two scripts.
        if !matches!(warning, ValidationWarning::MixedScriptString(_)) {
            report(warning.policy_id(), warning);
        }
    }
}
