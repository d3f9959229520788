"""Who is this, and may they act now? Passkeys, sessions, people, enrolment, genesis and recovery. No password anywhere."""
