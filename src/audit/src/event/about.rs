//! Whom a question of the log is about.

use super::CallEvent;

impl CallEvent {
    /// Notes the token of the end user that a question is about, in place of one behind the call.
    pub fn about_end_user(&mut self, token: [u8; 16]) {
        self.end_user = Some(token);
    }
}
