-- Run as an administrator of the server, and again after an upgrade of jitaccess: mariadb -u root < setup.sql
-- The roles that entitlements name must be there already. The server's own configuration needs, under [mysqld]:
--   event_scheduler = ON        ends accounts when the broker is dead
--   performance_schema = ON     shows sessions that are inside somebody else's routine
--
-- The broker's own account can do nothing but call six procedures. They run as <<keeper>>, an account that nobody can log in with;
-- they touch only accounts named after a lease, and grant only the roles below.
SET NAMES utf8mb4;
SET sql_mode = 'STRICT_ALL_TABLES,NO_AUTO_CREATE_USER,NO_ENGINE_SUBSTITUTION';
CREATE DATABASE IF NOT EXISTS jitaccess CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
CREATE USER IF NOT EXISTS <<keeper>> IDENTIFIED VIA mysql_native_password USING 'invalid' ACCOUNT LOCK;
GRANT SELECT, INSERT, UPDATE, DELETE, EXECUTE ON jitaccess.* TO <<keeper>>;
GRANT CREATE USER, CONNECTION ADMIN, PROCESS, EVENT, ALTER ROUTINE, TRIGGER, DROP, SHOW VIEW ON *.* TO <<keeper>>;
GRANT SELECT, UPDATE ON mysql.* TO <<keeper>>;
GRANT SELECT ON performance_schema.threads TO <<keeper>>;
<<grants>>

CREATE TABLE IF NOT EXISTS jitaccess.lease (
  account VARCHAR(80) PRIMARY KEY,
  ends_at DATETIME(6) NULL COMMENT 'UTC',
  print CHAR(64) NOT NULL DEFAULT '' COMMENT 'digest of what the password was born with',
  ended BOOLEAN NOT NULL DEFAULT FALSE,
  role VARCHAR(255) NULL COMMENT 'what it was given'
) ENGINE = InnoDB;
ALTER TABLE jitaccess.lease ADD COLUMN IF NOT EXISTS role VARCHAR(255) NULL COMMENT 'what it was given';
CREATE TABLE IF NOT EXISTS jitaccess.leftover (
  id BIGINT AUTO_INCREMENT PRIMARY KEY,
  account VARCHAR(255) NOT NULL COMMENT 'who had made it',
  kind VARCHAR(16) NOT NULL,
  place VARCHAR(255) NOT NULL,
  name VARCHAR(255) NOT NULL,
  body LONGTEXT NULL COMMENT 'what it did, for whoever wants to make it anew',
  dropped_at DATETIME(6) NOT NULL COMMENT 'UTC'
) ENGINE = InnoDB;
CREATE TABLE IF NOT EXISTS jitaccess.alias (
  account VARCHAR(80) NOT NULL,
  name VARCHAR(255) NOT NULL COMMENT 'what somebody had renamed the account to: sessions go on under that name',
  PRIMARY KEY (account, name)
) ENGINE = InnoDB;
CREATE TABLE IF NOT EXISTS jitaccess.spared (
  user VARCHAR(255) NOT NULL COMMENT 'never locked, whatever the broker asks; add your own',
  PRIMARY KEY (user)
) ENGINE = InnoDB;
INSERT IGNORE INTO jitaccess.spared VALUES ('root'), ('mariadb.sys'), (<<keeper_text>>), (<<user_text>>),
  (SUBSTRING_INDEX(CURRENT_USER(), '@', 1));

DELIMITER //

-- Accounts of leases that somebody gave another name: they have the password that a lease was born with, and the lease has none.
CREATE OR REPLACE DEFINER = <<keeper>> SQL SECURITY DEFINER VIEW jitaccess.renamed AS
SELECT l.account, l.ended OR l.ends_at <= UTC_TIMESTAMP(6) AS due, g.User AS user, g.Host AS host
FROM jitaccess.lease l JOIN mysql.global_priv g ON l.print = SHA2(JSON_VALUE(g.Priv, '$.authentication_string'), 256)
WHERE l.print <> '' AND g.User NOT IN (SELECT s.user FROM jitaccess.spared s)
  AND l.account NOT IN (SELECT o.User FROM mysql.global_priv o WHERE JSON_VALUE(o.Priv, '$.is_role') IS NULL) //

CREATE OR REPLACE DEFINER = <<keeper>> FUNCTION jitaccess.ident(name VARCHAR(255) CHARACTER SET utf8mb4)
RETURNS TEXT CHARACTER SET utf8mb4 DETERMINISTIC NO SQL SQL SECURITY DEFINER
RETURN CONCAT('`', REPLACE(name, '`', '``'), '`') //

CREATE OR REPLACE DEFINER = <<keeper>> FUNCTION jitaccess.who(name VARCHAR(255) CHARACTER SET utf8mb4, place VARCHAR(255) CHARACTER SET utf8mb4)
RETURNS TEXT CHARACTER SET utf8mb4 DETERMINISTIC NO SQL SQL SECURITY DEFINER
RETURN CONCAT(jitaccess.ident(name), '@', jitaccess.ident(place)) //

-- Only the broker may call, also where somebody else may execute every procedure of the server.
CREATE OR REPLACE DEFINER = <<keeper>> PROCEDURE jitaccess.guard() SQL SECURITY DEFINER
BEGIN
  IF BINARY SUBSTRING_INDEX(USER(), '@', 1) <> BINARY <<user_text>> THEN
    SIGNAL SQLSTATE '42000' SET MYSQL_ERRNO = 1370, MESSAGE_TEXT = 'only the broker may call this';
  END IF;
END //

-- Takes the place of EXECUTE IMMEDIATE, whose own text may not call functions.
CREATE OR REPLACE DEFINER = <<keeper>> PROCEDURE jitaccess.run(statement_ TEXT CHARACTER SET utf8mb4) SQL SECURITY DEFINER
BEGIN
  CALL jitaccess.guard();
  EXECUTE IMMEDIATE statement_;
END //

CREATE OR REPLACE DEFINER = <<keeper>> FUNCTION jitaccess.own(name TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin)
RETURNS BOOLEAN DETERMINISTIC NO SQL SQL SECURITY DEFINER
RETURN CHAR_LENGTH(name) = 30 AND name REGEXP '^jit-[0-9a-v]+\\z' //

-- names: what leases are called, with commas between.
CREATE OR REPLACE DEFINER = <<keeper>> PROCEDURE jitaccess.guard_names(names TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin)
SQL SECURITY DEFINER
BEGIN
  DECLARE left_over TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin DEFAULT CONCAT(names, ',');
  CALL jitaccess.guard();
  WHILE left_over <> '' DO
    IF NOT jitaccess.own(SUBSTRING_INDEX(left_over, ',', 1)) THEN
      SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = 31002, MESSAGE_TEXT = 'not the name of a lease';
    END IF;
    SET left_over = SUBSTRING(left_over, CHAR_LENGTH(SUBSTRING_INDEX(left_over, ',', 1)) + 2);
  END WHILE;
END //

-- The roles that leases are given.
CREATE OR REPLACE DEFINER = <<keeper>> FUNCTION jitaccess.lent() RETURNS TEXT CHARACTER SET utf8mb4 READS SQL DATA SQL SECURITY DEFINER
RETURN (SELECT COALESCE(GROUP_CONCAT(Role), '') FROM mysql.roles_mapping
  WHERE User = <<keeper_text>> AND Host = 'localhost' AND Admin_option = 'Y') //

-- Whether a thing belongs to one of these leases: by its definer, which may be a role (then there is nothing after the @).
CREATE OR REPLACE DEFINER = <<keeper>> FUNCTION jitaccess.theirs(
  definer VARCHAR(400) CHARACTER SET utf8mb4, names TEXT CHARACTER SET utf8mb4, roles TEXT CHARACTER SET utf8mb4
) RETURNS BOOLEAN DETERMINISTIC NO SQL SQL SECURITY DEFINER
RETURN IF(definer NOT LIKE '%@_%', FIND_IN_SET(TRIM(TRAILING '@' FROM definer), roles), FIND_IN_SET(SUBSTRING_INDEX(definer, '@', 1), names)) > 0 //

-- The roles that these leases were given; where that was not written down yet, all that are lent.
CREATE OR REPLACE DEFINER = <<keeper>> FUNCTION jitaccess.given(names TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin)
RETURNS TEXT CHARACTER SET utf8mb4 READS SQL DATA SQL SECURITY DEFINER
RETURN (SELECT COALESCE(GROUP_CONCAT(DISTINCT IF(l.role IS NULL AND l.print <> '', jitaccess.lent(), l.role)), '')
  FROM jitaccess.lease l WHERE FIND_IN_SET(l.account, names)) //

-- One thing that runs as a role; NULL when there is none.
CREATE OR REPLACE DEFINER = <<keeper>> FUNCTION jitaccess.runs_as(role_ VARCHAR(255) CHARACTER SET utf8mb4)
RETURNS TEXT CHARACTER SET utf8mb4 READS SQL DATA SQL SECURITY DEFINER
RETURN (SELECT CONCAT(LOWER(thing.kind), ' ', thing.db, '.', thing.name) FROM (
    SELECT 'event' AS kind, db, name FROM mysql.event WHERE jitaccess.theirs(definer, '', role_)
    UNION ALL SELECT type, db, name FROM mysql.proc WHERE jitaccess.theirs(definer, '', role_)
    UNION ALL SELECT 'trigger', TRIGGER_SCHEMA, TRIGGER_NAME FROM information_schema.TRIGGERS WHERE jitaccess.theirs(DEFINER, '', role_)
    UNION ALL SELECT 'view', TABLE_SCHEMA, TABLE_NAME FROM information_schema.VIEWS WHERE jitaccess.theirs(DEFINER, '', role_)
  ) thing LIMIT 1) //

-- What of a role, of the roles that it holds and of PUBLIC outlives a lease or beats its end, a line each; NULL when nothing
-- does. On *.* and on the server's own databases only what reads is lent; nothing that can be handed on is, anywhere.
CREATE OR REPLACE DEFINER = <<keeper>> FUNCTION jitaccess.against(role_ VARCHAR(255) CHARACTER SET utf8mb4)
RETURNS LONGTEXT CHARACTER SET utf8mb4 READS SQL DATA SQL SECURITY DEFINER
RETURN (
  WITH RECURSIVE reach (name) AS (
    SELECT CONVERT(role_ USING utf8mb3) COLLATE utf8mb3_bin UNION SELECT 'PUBLIC'
    UNION SELECT m.Role FROM mysql.roles_mapping m JOIN reach ON m.User = reach.name AND m.Host = ''
  ),
  closed (name) AS (SELECT 'mysql' UNION ALL SELECT 'jitaccess' UNION ALL SELECT 'sys' UNION ALL SELECT 'performance_schema'),
  far (name, words, place) AS (
    SELECT r.name, MAKE_SET(CAST(COALESCE(JSON_VALUE(g.Priv, '$.access'), '0') AS UNSIGNED) & ~<<harmless>>, <<privileges>>), '*.*'
    FROM mysql.global_priv g JOIN reach r ON g.User = r.name AND g.Host = '' WHERE JSON_VALUE(g.Priv, '$.is_role') IS NOT NULL
    UNION ALL
    SELECT r.name, CONCAT_WS(',', IF(d.Grant_priv = 'Y', 'GRANT OPTION', NULL), IF(EXISTS (SELECT 1 FROM closed c WHERE c.name LIKE d.Db),
      NULLIF(CONCAT_WS(',', IF(d.Insert_priv = 'Y', 'INSERT', NULL), IF(d.Update_priv = 'Y', 'UPDATE', NULL), IF(d.Delete_priv = 'Y', 'DELETE', NULL),
        IF(d.Create_priv = 'Y', 'CREATE', NULL), IF(d.Drop_priv = 'Y', 'DROP', NULL), IF(d.Index_priv = 'Y', 'INDEX', NULL),
        IF(d.Alter_priv = 'Y', 'ALTER', NULL), IF(d.Lock_tables_priv = 'Y', 'LOCK TABLES', NULL),
        IF(d.Create_view_priv = 'Y', 'CREATE VIEW', NULL), IF(d.Create_routine_priv = 'Y', 'CREATE ROUTINE', NULL),
        IF(d.Alter_routine_priv = 'Y', 'ALTER ROUTINE', NULL), IF(d.Event_priv = 'Y', 'EVENT', NULL), IF(d.Trigger_priv = 'Y', 'TRIGGER', NULL)), ''), NULL)),
      CONCAT(d.Db, '.*')
    FROM mysql.db d JOIN reach r ON d.User = r.name AND d.Host = ''
    UNION ALL
    SELECT r.name, CONCAT_WS(',', IF(FIND_IN_SET('Grant', t.Table_priv), 'GRANT OPTION', NULL), IF(t.Db IN (SELECT c.name FROM closed c), NULLIF(TRIM(BOTH ',' FROM
      REGEXP_REPLACE(CONCAT_WS(',', UPPER(t.Table_priv), NULLIF(UPPER(t.Column_priv), '')), '(?<![^,])(SELECT|REFERENCES|SHOW VIEW|GRANT|DELETE VERSIONING ROWS)(,|$)', '')), ''), NULL)),
      CONCAT(t.Db, '.', t.Table_name)
    FROM mysql.tables_priv t JOIN reach r ON t.User = r.name AND t.Host = ''
    UNION ALL
    SELECT r.name, CONCAT_WS(',', IF(FIND_IN_SET('Grant', p.Proc_priv), 'GRANT OPTION', NULL),
      IF(p.Db IN (SELECT c.name FROM closed c) AND FIND_IN_SET('Alter Routine', p.Proc_priv), 'ALTER ROUTINE', NULL)),
      CONCAT(LOWER(p.Routine_type), ' ', p.Db, '.', p.Routine_name)
    FROM mysql.procs_priv p JOIN reach r ON p.User = r.name AND p.Host = ''
  )
  SELECT GROUP_CONCAT(line ORDER BY line SEPARATOR '\n') FROM (
    SELECT CONCAT(REPLACE(words, ',', ', '), ' on ', place, IF(name = role_, '', CONCAT(' through ', name))) AS line FROM far WHERE words <> ''
    UNION ALL
    SELECT CONCAT('member of ', m.Role, ' with admin option', IF(r.name = role_, '', CONCAT(' through ', r.name)))
    FROM mysql.roles_mapping m JOIN reach r ON m.User = r.name AND m.Host = '' WHERE m.Admin_option = 'Y'
    UNION ALL
    SELECT CONCAT('PROXY of ', x.Proxied_user, IF(r.name = role_, '', CONCAT(' through ', r.name)))
    FROM mysql.proxies_priv x JOIN reach r ON x.User = r.name AND x.Host = ''
  ) lines_
) //

-- End the sessions of these accounts; left_: how many there were. Inside somebody's routine a session goes by the name of the routine's
-- definer in the process list; performance_schema goes on to show who logged in. events: end the threads of events too.
CREATE OR REPLACE DEFINER = <<keeper>> PROCEDURE jitaccess.hunt(
  names TEXT CHARACTER SET utf8mb4, roles TEXT CHARACTER SET utf8mb4, events BOOLEAN, OUT left_ INT
) SQL SECURITY DEFINER
BEGIN
  DECLARE CONTINUE HANDLER FOR 1094 BEGIN END;
  CALL jitaccess.guard();
  SET left_ = 0;
  FOR one IN (
    SELECT ID AS id FROM information_schema.PROCESSLIST
    WHERE FIND_IN_SET(USER, names) OR (HOST = '' AND COMMAND = 'Connect' AND FIND_IN_SET(USER, roles))
    UNION
    SELECT t.PROCESSLIST_ID FROM performance_schema.threads t JOIN information_schema.PROCESSLIST p ON p.ID = t.PROCESSLIST_ID
    WHERE FIND_IN_SET(t.PROCESSLIST_USER, names)
      OR (events AND t.NAME = 'thread/sql/event_worker' AND p.USER <> <<keeper_text>>)
  ) DO
    SET left_ = left_ + 1;
    CALL jitaccess.run(CONCAT('KILL HARD CONNECTION ', one.id));
  END FOR;
  FOR one IN ( -- what came in under another name; apart, since a session that is ended by now may have kept this table locked
    SELECT p.ID AS id FROM information_schema.PROCESSLIST p LEFT JOIN performance_schema.threads t ON t.PROCESSLIST_ID = p.ID
    WHERE EXISTS (SELECT 1 FROM jitaccess.alias a WHERE FIND_IN_SET(a.account, names) AND BINARY a.name IN (BINARY p.USER, BINARY t.PROCESSLIST_USER))
  ) DO
    SET left_ = left_ + 1;
    CALL jitaccess.run(CONCAT('KILL HARD CONNECTION ', one.id));
  END FOR;
END //

-- The same until none is left.
CREATE OR REPLACE DEFINER = <<keeper>> PROCEDURE jitaccess.hunt_all(
  names TEXT CHARACTER SET utf8mb4, roles TEXT CHARACTER SET utf8mb4, events BOOLEAN
) SQL SECURITY DEFINER
BEGIN
  DECLARE left_, tries, quiet INT DEFAULT 0;
  REPEAT
    CALL jitaccess.hunt(names, roles, events, left_);
    SET quiet = IF(left_ = 0, quiet + 1, 0), tries = tries + 1;
    IF quiet < 2 THEN
      DO SLEEP(0.003);
    END IF;
  UNTIL quiet = 2 OR tries > 1000 END REPEAT;
  IF quiet < 2 THEN
    SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = 31003, MESSAGE_TEXT = 'a session does not end';
  END IF;
END //

-- Drop the code of these leases; its text is kept in jitaccess.leftover. What runs as the role that they were given counts as theirs: when
-- the first of its leases that still live was made, nothing did (see make).
CREATE OR REPLACE DEFINER = <<keeper>> PROCEDURE jitaccess.forget_events(names TEXT CHARACTER SET utf8mb4, roles TEXT CHARACTER SET utf8mb4, OUT gone INT)
SQL SECURITY DEFINER
BEGIN
  CALL jitaccess.guard();
  SET gone = 0;
  FOR one IN (SELECT db, name, definer, body_utf8 FROM mysql.event WHERE jitaccess.theirs(definer, names, roles)) DO
    INSERT INTO jitaccess.leftover (account, kind, place, name, body, dropped_at)
      VALUES (SUBSTRING_INDEX(one.definer, '@', 1), 'EVENT', one.db, one.name, CONVERT(one.body_utf8 USING utf8mb4), UTC_TIMESTAMP(6));
    CALL jitaccess.run(CONCAT('DROP EVENT IF EXISTS ', jitaccess.ident(one.db), '.', jitaccess.ident(one.name)));
    SET gone = gone + 1;
  END FOR;
END //

CREATE OR REPLACE DEFINER = <<keeper>> PROCEDURE jitaccess.forget(names TEXT CHARACTER SET utf8mb4, roles TEXT CHARACTER SET utf8mb4, OUT gone INT)
SQL SECURITY DEFINER
BEGIN
  CALL jitaccess.forget_events(names, roles, gone);
  FOR one IN (
    SELECT 'TRIGGER' AS kind, TRIGGER_SCHEMA AS db, TRIGGER_NAME AS name, DEFINER AS definer, ACTION_STATEMENT AS body
    FROM information_schema.TRIGGERS WHERE jitaccess.theirs(DEFINER, names, roles)
    UNION ALL
    SELECT 'VIEW', TABLE_SCHEMA, TABLE_NAME, DEFINER, VIEW_DEFINITION
    FROM information_schema.VIEWS WHERE jitaccess.theirs(DEFINER, names, roles)
    UNION ALL
    SELECT type, db, name, definer, CONVERT(body_utf8 USING utf8mb4)
    FROM mysql.proc WHERE jitaccess.theirs(definer, names, roles)
  ) DO
    INSERT INTO jitaccess.leftover (account, kind, place, name, body, dropped_at)
      VALUES (SUBSTRING_INDEX(one.definer, '@', 1), one.kind, one.db, one.name, one.body, UTC_TIMESTAMP(6));
    SET gone = gone + 1;
    CALL jitaccess.run(CONCAT('DROP ', one.kind, ' IF EXISTS ', jitaccess.ident(one.db), '.', jitaccess.ident(one.name)));
  END FOR;
END //

-- Whose rights these are, as the server shows who has them: 'name'@'host', with nothing escaped.
CREATE OR REPLACE DEFINER = <<keeper>> FUNCTION jitaccess.holder(grantee TEXT CHARACTER SET utf8mb4)
RETURNS TEXT CHARACTER SET utf8mb4 DETERMINISTIC NO SQL SQL SECURITY DEFINER
RETURN SUBSTRING(grantee, 2, CHAR_LENGTH(grantee) - CHAR_LENGTH(SUBSTRING_INDEX(grantee, '''@''', -1)) - 4) //

-- Which of these leases the server lets in by its memory alone: somebody took their rows away, and nothing was read again since.
CREATE OR REPLACE DEFINER = <<keeper>> FUNCTION jitaccess.in_memory(names TEXT CHARACTER SET utf8mb4)
RETURNS INT READS SQL DATA SQL SECURITY DEFINER
RETURN (SELECT COUNT(*) FROM information_schema.USER_PRIVILEGES WHERE FIND_IN_SET(jitaccess.holder(GRANTEE), names)
  AND jitaccess.holder(GRANTEE) NOT IN (SELECT User FROM mysql.global_priv)) //

-- What is still written down of these leases, in any table of rights, or in memory.
CREATE OR REPLACE DEFINER = <<keeper>> FUNCTION jitaccess.traces(names TEXT CHARACTER SET utf8mb4)
RETURNS INT READS SQL DATA SQL SECURITY DEFINER
RETURN (SELECT COUNT(*) FROM mysql.global_priv WHERE FIND_IN_SET(User, names))
  + (SELECT COUNT(*) FROM mysql.db WHERE FIND_IN_SET(User, names))
  + (SELECT COUNT(*) FROM mysql.tables_priv WHERE FIND_IN_SET(User, names))
  + (SELECT COUNT(*) FROM mysql.columns_priv WHERE FIND_IN_SET(User, names))
  + (SELECT COUNT(*) FROM mysql.procs_priv WHERE FIND_IN_SET(User, names))
  + (SELECT COUNT(*) FROM mysql.proxies_priv WHERE FIND_IN_SET(User, names))
  + (SELECT COUNT(*) FROM mysql.roles_mapping WHERE FIND_IN_SET(User, names))
  + jitaccess.in_memory(names) //

-- What still runs as them. Reading triggers and views opens every table's definition.
CREATE OR REPLACE DEFINER = <<keeper>> FUNCTION jitaccess.code_left(names TEXT CHARACTER SET utf8mb4, roles TEXT CHARACTER SET utf8mb4)
RETURNS INT READS SQL DATA SQL SECURITY DEFINER
RETURN (SELECT COUNT(*) FROM mysql.event WHERE jitaccess.theirs(definer, names, roles))
  + (SELECT COUNT(*) FROM mysql.proc WHERE jitaccess.theirs(definer, names, roles))
  + (SELECT COUNT(*) FROM information_schema.TRIGGERS WHERE jitaccess.theirs(DEFINER, names, roles))
  + (SELECT COUNT(*) FROM information_schema.VIEWS WHERE jitaccess.theirs(DEFINER, names, roles)) //

-- Runs every second, also without the broker: ends the sessions of what has ended, and locks it. It does nothing that is not due.
CREATE OR REPLACE DEFINER = <<keeper>> PROCEDURE jitaccess.expire() SQL SECURITY DEFINER
BEGIN
  DECLARE act TEXT CHARACTER SET utf8mb4;
  DECLARE round INT DEFAULT 0;
  DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END; -- one account that cannot be locked keeps no other open
  SET SESSION lock_wait_timeout = 1;
  IF EXISTS (SELECT 1 FROM jitaccess.lease l WHERE l.ended OR l.ends_at <= UTC_TIMESTAMP(6)) THEN
    WHILE round < 2 DO -- sessions first, since one of them may keep the tables of rights locked; and who came in meanwhile
      FOR one IN (
        WITH due (name) AS (SELECT BINARY l.account FROM jitaccess.lease l WHERE l.ended OR l.ends_at <= UTC_TIMESTAMP(6))
        SELECT ID AS id FROM information_schema.PROCESSLIST WHERE BINARY USER IN (SELECT name FROM due)
        UNION SELECT PROCESSLIST_ID FROM performance_schema.threads WHERE BINARY PROCESSLIST_USER IN (SELECT name FROM due)
      ) DO
        SET act = CONCAT('KILL HARD CONNECTION ', one.id);
        EXECUTE IMMEDIATE act;
      END FOR;
      IF round = 0 THEN
        FOR one IN (
          SELECT g.User AS user, g.Host AS host FROM jitaccess.lease l JOIN mysql.global_priv g ON g.User = l.account
          WHERE (l.ended OR l.ends_at <= UTC_TIMESTAMP(6)) AND COALESCE(JSON_VALUE(g.Priv, '$.account_locked'), '0') NOT IN ('1', 'true')
        ) DO
          SET act = CONCAT('ALTER USER IF EXISTS ', jitaccess.who(one.user, one.host), ' ACCOUNT LOCK');
          EXECUTE IMMEDIATE act;
        END FOR;
        FOR one IN (SELECT user, host FROM jitaccess.renamed WHERE due) DO
          SET act = CONCAT('ALTER USER IF EXISTS ', jitaccess.who(one.user, one.host), ' ACCOUNT LOCK');
          EXECUTE IMMEDIATE act;
          SET act = CONCAT('KILL HARD USER ', jitaccess.who(one.user, one.host));
          EXECUTE IMMEDIATE act;
        END FOR;
      END IF;
      SET round = round + 1;
    END WHILE;
  END IF;
END //

CREATE OR REPLACE DEFINER = <<keeper>> EVENT jitaccess.tick ON SCHEDULE EVERY 1 SECOND ON COMPLETION PRESERVE ENABLE
DO CALL jitaccess.expire() //

-- Why the server does not end accounts by itself; empty where it does: where the event is as it stands above, and ran just now.
-- The times of mysql.event are in UTC.
CREATE OR REPLACE DEFINER = <<keeper>> FUNCTION jitaccess.tick_wrong() RETURNS TEXT CHARACTER SET utf8mb4 READS SQL DATA SQL SECURITY DEFINER
RETURN IF(@@GLOBAL.event_scheduler <> 'ON', 'event_scheduler is not ON', COALESCE((
  SELECT CASE
    WHEN NOT (e.status <=> 'ENABLED') THEN 'the event jitaccess.tick is disabled'
    WHEN NOT (e.definer <=> CONCAT(<<keeper_text>>, '@localhost')) THEN 'the event jitaccess.tick runs as somebody else'
    WHEN NOT (e.body <=> BINARY 'CALL jitaccess.expire()') THEN 'the event jitaccess.tick does something else'
    WHEN NOT EXISTS (
      SELECT 1 FROM mysql.proc p WHERE p.db = 'jitaccess' AND p.name = 'expire' AND p.type = 'PROCEDURE' AND p.definer = e.definer
        AND SHA2(REGEXP_REPLACE(CONVERT(p.body USING utf8mb4), '-- [^\n]*|\\s+', ''), 256) = <<expire>>
    ) THEN 'the procedure jitaccess.expire is not as installed'
    WHEN NOT (e.interval_value <=> 1 AND e.interval_field <=> 'SECOND' AND e.ends IS NULL AND e.starts <= UTC_TIMESTAMP())
      THEN 'the event jitaccess.tick has another schedule'
    WHEN ABS(TIMESTAMPDIFF(SECOND, COALESCE(e.last_executed, e.starts), UTC_TIMESTAMP())) <= 30 THEN ''
    ELSE 'the event jitaccess.tick did not run in the last 30 s' END
  FROM mysql.event e WHERE e.db = 'jitaccess' AND e.name = 'tick'), 'there is no event jitaccess.tick')) //

-- Make the account of a lease. Error 31001 proves that nothing was made; 31004 in its text says that the owner has to act. A make that is overtaken by cut or bury undoes itself: both write
-- `ended` before they lock, and this reads it after it unlocked.
CREATE OR REPLACE DEFINER = <<keeper>> PROCEDURE jitaccess.make(
  account VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
  place VARCHAR(255) CHARACTER SET utf8mb4,
  role_ VARCHAR(255) CHARACTER SET utf8mb4,
  verifier CHAR(41) CHARACTER SET utf8mb4,
  ends DATETIME(6),
  deadline DATETIME(6),
  connections INT,
  days INT,
  secured BOOLEAN,
  all_seen BOOLEAN
) SQL SECURITY DEFINER
BEGIN
  DECLARE taken, made, wrong BOOLEAN DEFAULT FALSE;
  DECLARE code INT;
  DECLARE said TEXT CHARACTER SET utf8mb4;
  DECLARE name TEXT CHARACTER SET utf8mb4 DEFAULT jitaccess.who(account, place);
  DECLARE EXIT HANDLER FOR SQLEXCEPTION
  BEGIN
    GET DIAGNOSTICS CONDITION 1 code = MYSQL_ERRNO, said = MESSAGE_TEXT;
    IF made THEN
      CALL jitaccess.run(CONCAT('DROP USER IF EXISTS ', name));
    END IF;
    IF taken THEN
      DELETE FROM jitaccess.lease WHERE lease.account = account AND NOT ended;
    END IF;
    SET said = CONCAT('nothing was made: ', code, IF(code IN (31001, 31004), CONCAT(' ', said), ''));
    SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = 31001, MESSAGE_TEXT = said;
  END;
  CALL jitaccess.guard_names(account);
  SET said = jitaccess.tick_wrong();
  IF said <> '' THEN
    SET said = CONCAT('the server does not end accounts: ', said);
    SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = 31004, MESSAGE_TEXT = said;
  END IF;
  IF all_seen AND NOT @@performance_schema THEN
    SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = 31004, MESSAGE_TEXT = 'the server does not show all sessions: performance_schema is off';
  END IF;
  SELECT UTC_TIMESTAMP(6) >= deadline OR UTC_TIMESTAMP(6) >= ends OR NOT FIND_IN_SET(role_, jitaccess.lent()) INTO wrong;
  IF wrong OR wrong IS NULL THEN
    SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = 31001, MESSAGE_TEXT = 'too late, or not a role that may be lent';
  END IF;
  -- Nobody can tell afterwards who made what runs as a role. So there is nothing when it is lent, and what comes then is a leftover.
  IF NOT EXISTS (SELECT 1 FROM jitaccess.lease l WHERE l.role = role_) THEN
    SET said = jitaccess.runs_as(role_);
    IF said IS NOT NULL THEN
      SET said = LEFT(CONCAT(said, ' runs as the role ', role_, ' since before: give it another definer'), 400);
      SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = 31004, MESSAGE_TEXT = said;
    END IF;
  END IF;
  SET said = SUBSTRING_INDEX(jitaccess.against(role_), '\n', 1);
  IF said IS NOT NULL THEN
    SET said = LEFT(CONCAT('the role ', role_, ' is not lent: it has a right that outlives a lease or beats its end: ', said), 400);
    SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = 31004, MESSAGE_TEXT = said;
  END IF;
  INSERT INTO jitaccess.lease (account, ends_at, print, role) VALUES (account, ends, SHA2(verifier, 256), role_);
  SET taken = TRUE;
  CALL jitaccess.run(CONCAT(
    'CREATE USER ', name, ' IDENTIFIED VIA mysql_native_password USING ', QUOTE(verifier), IF(secured, ' REQUIRE SSL', ''),
    ' WITH MAX_USER_CONNECTIONS ', connections, ' ACCOUNT LOCK PASSWORD EXPIRE INTERVAL ', days, ' DAY'));
  SET made = TRUE;
  CALL jitaccess.run(CONCAT('GRANT ', jitaccess.ident(role_), ' TO ', name));
  CALL jitaccess.run(CONCAT('SET DEFAULT ROLE ', jitaccess.ident(role_), ' FOR ', name));
  SELECT UTC_TIMESTAMP(6) >= deadline INTO wrong;
  IF NOT wrong THEN
    CALL jitaccess.run(CONCAT('ALTER USER ', name, ' ACCOUNT UNLOCK'));
    SELECT UTC_TIMESTAMP(6) >= deadline OR COUNT(*) <> 1 INTO wrong FROM jitaccess.lease l WHERE l.account = account AND NOT l.ended;
  END IF;
  IF wrong THEN
    SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = 31001, MESSAGE_TEXT = 'too late';
  END IF;
END //

-- Take the name: what is being made under it undoes itself, what comes later fails on it.
CREATE OR REPLACE DEFINER = <<keeper>> PROCEDURE jitaccess.bury(account VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin, place VARCHAR(255) CHARACTER SET utf8mb4)
SQL SECURITY DEFINER
BEGIN
  CALL jitaccess.guard_names(account);
  INSERT INTO jitaccess.lease (account, ended) VALUES (account, TRUE) ON DUPLICATE KEY UPDATE ended = TRUE;
  CALL jitaccess.run(CONCAT('CREATE USER IF NOT EXISTS ', jitaccess.who(account, place),
    ' IDENTIFIED VIA mysql_native_password USING ''invalid'' ACCOUNT LOCK'));
END //

-- Lock these accounts, and take back what somebody renamed; busy: something kept a table locked for a second, and the rest was not tried.
CREATE OR REPLACE DEFINER = <<keeper>> PROCEDURE jitaccess.shut(names TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin, OUT busy BOOLEAN)
SQL SECURITY DEFINER
BEGIN
  DECLARE CONTINUE HANDLER FOR 1205 SET busy = TRUE;
  CALL jitaccess.guard_names(names);
  SET busy = FALSE;
  SET STATEMENT lock_wait_timeout = 1, innodb_lock_wait_timeout = 1 FOR UPDATE jitaccess.lease SET ended = TRUE WHERE FIND_IN_SET(account, names);
  IF NOT busy THEN
    FOR one IN (SELECT account, user, host FROM jitaccess.renamed WHERE FIND_IN_SET(account, names)) DO
      IF NOT busy THEN
        SET STATEMENT lock_wait_timeout = 1 FOR INSERT IGNORE INTO jitaccess.alias VALUES (one.account, one.user);
      END IF;
      IF NOT busy THEN -- the other name is written down: sessions go on under it
        CALL jitaccess.run(CONCAT('SET STATEMENT lock_wait_timeout = 1 FOR RENAME USER ', jitaccess.who(one.user, one.host),
          ' TO ', jitaccess.who(one.account, one.host)));
      END IF;
    END FOR;
    FOR one IN (
      SELECT User, Host FROM mysql.global_priv WHERE FIND_IN_SET(User, names) AND JSON_VALUE(Priv, '$.is_role') IS NULL
    ) DO
      IF NOT busy THEN
        CALL jitaccess.run(CONCAT('SET STATEMENT lock_wait_timeout = 1 FOR ALTER USER IF EXISTS ', jitaccess.who(one.User, one.Host),
          ' IDENTIFIED VIA mysql_native_password USING ''invalid'' ACCOUNT LOCK'));
      END IF;
    END FOR;
  END IF;
END //

-- End login and sessions of these accounts, at whatever host they are; tell which of them are there. Sessions first: one of them may keep
-- the tables of rights locked (FLUSH TABLES WITH READ LOCK), and would outwait the broker.
CREATE OR REPLACE DEFINER = <<keeper>> PROCEDURE jitaccess.cut(names TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin) SQL SECURITY DEFINER
BEGIN
  DECLARE open_, gone, tries, left_ INT DEFAULT 0;
  DECLARE busy BOOLEAN DEFAULT TRUE;
  DECLARE roles TEXT CHARACTER SET utf8mb4 DEFAULT '';
  CALL jitaccess.guard_names(names);
  WHILE busy AND tries < 6 DO
    CALL jitaccess.hunt(names, '', FALSE, left_);
    CALL jitaccess.shut(names, busy);
    SET tries = tries + 1;
  END WHILE;
  IF busy THEN
    SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = 31003, MESSAGE_TEXT = 'an account cannot be locked: somebody else keeps the tables of rights locked';
  END IF;
  SET roles = jitaccess.given(names);
  CALL jitaccess.forget_events(names, roles, gone);
  CALL jitaccess.hunt_all(names, roles, gone > 0);
  SELECT COUNT(*) INTO open_ FROM mysql.global_priv
    WHERE FIND_IN_SET(User, names) AND JSON_VALUE(Priv, '$.is_role') IS NULL
      AND COALESCE(JSON_VALUE(Priv, '$.account_locked'), '0') NOT IN ('1', 'true');
  IF open_ > 0 OR jitaccess.in_memory(names) > 0 THEN
    SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = 31003, MESSAGE_TEXT = 'an account can still log in';
  END IF;
  SELECT DISTINCT User AS account FROM mysql.global_priv WHERE FIND_IN_SET(User, names);
END //

-- Drop the code and the accounts of these leases, read back; tell how much code each of them left.
CREATE OR REPLACE DEFINER = <<keeper>> PROCEDURE jitaccess.clean(names TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin) SQL SECURITY DEFINER
BEGIN
  DECLARE gone INT DEFAULT 0;
  DECLARE roles TEXT CHARACTER SET utf8mb4 DEFAULT jitaccess.given(names);
  CALL jitaccess.guard_names(names);
  CALL jitaccess.forget(names, roles, gone);
  FOR one IN (SELECT User, Host, JSON_VALUE(Priv, '$.is_role') AS role_ FROM mysql.global_priv WHERE FIND_IN_SET(User, names)) DO
    IF one.role_ IS NULL THEN
      CALL jitaccess.run(CONCAT('DROP USER IF EXISTS ', jitaccess.who(one.User, one.Host)));
    ELSE -- somebody gave a role the name of a lease
      CALL jitaccess.run(CONCAT('DROP ROLE IF EXISTS ', jitaccess.ident(one.User)));
    END IF;
  END FOR;
  CALL jitaccess.hunt_all(names, '', FALSE); -- one that was logging in while its account was being locked
  -- Where nothing was found to be dropped, that look was the proof: nobody can be these accounts any more.
  IF jitaccess.traces(names) > 0 OR (gone > 0 AND jitaccess.code_left(names, roles) > 0) THEN
    SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = 31003, MESSAGE_TEXT = 'something of the account is still there';
  END IF;
  DELETE FROM jitaccess.lease WHERE FIND_IN_SET(account, names);
  DELETE FROM jitaccess.alias WHERE FIND_IN_SET(account, names);
  SELECT account, COUNT(*) AS left_ FROM jitaccess.leftover WHERE FIND_IN_SET(account, names) GROUP BY account;
END //

-- Show accounts, rights, sessions and definers. No verifier leaves the server: only digests of them.
CREATE OR REPLACE DEFINER = <<keeper>> PROCEDURE jitaccess.look() SQL SECURITY DEFINER
BEGIN
  CALL jitaccess.guard();
  SELECT jitaccess.tick_wrong() AS tick_wrong, @@performance_schema AS all_seen, <<version>> AS script;
  SELECT User AS user, Host AS host, COALESCE(JSON_VALUE(Priv, '$.is_role'), '0') IN ('1', 'true') AS is_role,
    COALESCE(JSON_VALUE(Priv, '$.account_locked'), '0') IN ('1', 'true') AS locked,
    COALESCE(JSON_VALUE(Priv, '$.access'), '0') AS access, COALESCE(JSON_VALUE(Priv, '$.ssl_type'), '0') AS tls,
    COALESCE(JSON_VALUE(Priv, '$.plugin'), '') AS plugin, COALESCE(JSON_EXTRACT(Priv, '$.auth_or[*].plugin'), '[]') AS plugins,
    COALESCE(JSON_VALUE(Priv, '$.password_lifetime'), '') AS lifetime, COALESCE(JSON_VALUE(Priv, '$.default_role'), '') AS default_role,
    SHA2(COALESCE(JSON_VALUE(Priv, '$.authentication_string'), ''), 256) AS verifier,
    SHA2(CONCAT_WS('|', JSON_VALUE(Priv, '$.plugin'), JSON_VALUE(Priv, '$.authentication_string'), JSON_EXTRACT(Priv, '$.auth_or')), 256) AS print
  FROM mysql.global_priv;
  SELECT * FROM mysql.db;
  SELECT User, Host, Db, Table_name, Table_priv, Column_priv FROM mysql.tables_priv;
  SELECT User, Host, Db, Routine_name, Routine_type, Proc_priv FROM mysql.procs_priv;
  SELECT User, Host, Role, Admin_option FROM mysql.roles_mapping;
  SELECT User, Host, Proxied_user, Proxied_host FROM mysql.proxies_priv;
  SELECT account, ends_at, print, ended, role FROM jitaccess.lease;
  SELECT USER AS user, COUNT(*) AS sessions FROM (
    SELECT p.ID, COALESCE(t.PROCESSLIST_USER, p.USER) AS USER
    FROM information_schema.PROCESSLIST p LEFT JOIN performance_schema.threads t ON t.PROCESSLIST_ID = p.ID
    WHERE p.COMMAND <> 'Daemon' AND p.ID <> CONNECTION_ID() AND NOT (p.USER = 'unauthenticated user' AND p.COMMAND = 'Connect')
      AND NOT (p.USER = 'system user' AND p.HOST = '')) seen GROUP BY 1;
  SELECT 'event' AS kind, db AS place, name, definer FROM mysql.event
  UNION ALL SELECT LOWER(type), db, name, definer FROM mysql.proc
  UNION ALL SELECT 'trigger', TRIGGER_SCHEMA, TRIGGER_NAME, DEFINER FROM information_schema.TRIGGERS
  UNION ALL SELECT 'view', TABLE_SCHEMA, TABLE_NAME, DEFINER FROM information_schema.VIEWS;
  -- What the server goes by is its memory, which somebody may have made differ from the tables.
  SELECT jitaccess.holder(GRANTEE) AS user, SUBSTRING_INDEX(TRIM(TRAILING '''' FROM GRANTEE), '''@''', -1) AS host,
    PRIVILEGE_TYPE AS privilege, IS_GRANTABLE = 'YES' AS grantable
  FROM information_schema.USER_PRIVILEGES;
  SELECT jitaccess.holder(GRANTEE) AS user, -- of a role the host is empty
    SUBSTRING(GRANTEE, CHAR_LENGTH(jitaccess.holder(GRANTEE)) + 5, CHAR_LENGTH(GRANTEE) - CHAR_LENGTH(jitaccess.holder(GRANTEE)) - 5) AS host,
    TABLE_SCHEMA AS place, PRIVILEGE_TYPE AS privilege, IS_GRANTABLE = 'YES' AS grantable
  FROM information_schema.SCHEMA_PRIVILEGES;
  SELECT Role AS role, jitaccess.against(Role) AS against FROM mysql.roles_mapping
  WHERE User = <<keeper_text>> AND Host = 'localhost' AND Admin_option = 'Y';
END //

-- Optional: lock an account that nothing explains (see jitaccess.spared). Without it the broker says what you have to run.
CREATE OR REPLACE DEFINER = <<keeper>> PROCEDURE jitaccess.disable(name VARCHAR(255) CHARACTER SET utf8mb4, place VARCHAR(255) CHARACTER SET utf8mb4)
SQL SECURITY DEFINER
BEGIN
  DECLARE CONTINUE HANDLER FOR 1094 BEGIN END;
  CALL jitaccess.guard();
  IF EXISTS (SELECT 1 FROM jitaccess.spared s WHERE BINARY s.user = BINARY name) THEN
    SIGNAL SQLSTATE '42000' SET MYSQL_ERRNO = 1227, MESSAGE_TEXT = 'this account is never locked';
  END IF;
  CALL jitaccess.run(CONCAT('ALTER USER ', jitaccess.who(name, place), ' ACCOUNT LOCK'));
  FOR one IN (
    SELECT ID AS id FROM information_schema.PROCESSLIST WHERE BINARY USER = BINARY name
    UNION SELECT PROCESSLIST_ID FROM performance_schema.threads WHERE BINARY PROCESSLIST_USER = BINARY name
  ) DO
    CALL jitaccess.run(CONCAT('KILL HARD CONNECTION ', one.id));
  END FOR;
END //

DELIMITER ;

CREATE USER IF NOT EXISTS <<user>> IDENTIFIED VIA mysql_native_password USING 'invalid'<<secured>> WITH MAX_USER_CONNECTIONS 40;
GRANT EXECUTE ON PROCEDURE jitaccess.make TO <<user>>;
GRANT EXECUTE ON PROCEDURE jitaccess.bury TO <<user>>;
GRANT EXECUTE ON PROCEDURE jitaccess.cut TO <<user>>;
GRANT EXECUTE ON PROCEDURE jitaccess.clean TO <<user>>;
GRANT EXECUTE ON PROCEDURE jitaccess.look TO <<user>>;
GRANT EXECUTE ON PROCEDURE jitaccess.disable TO <<user>>;
-- The password of the broker is what stands in the file <<secret>> of targets.secrets_dir (chmod 600); type it into a client that
-- keeps no history, then `jitaccess targets rotate` changes it to one that nobody has seen:
--   SET PASSWORD FOR <<user>> = PASSWORD('...');
