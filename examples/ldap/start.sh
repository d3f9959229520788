#!/bin/sh
# Start a throw-away OpenLDAP on 127.0.0.1 in FOLDER, with people and a group, and give the broker its entry there:
#   examples/ldap/start.sh FOLDER PORT
# The administrator's password is then in FOLDER/owner, the broker's in FOLDER/secrets/directory-broker. `stop.sh FOLDER` stops it.
set -eu
folder=$1
port=$2
python=${PYTHON:-python3}

umask 077
mkdir -p "$folder/secrets" "$folder/server/conf" "$folder/server/data"
chmod 755 "$folder"
fresh() { "$python" -c 'import secrets, sys; sys.stdout.write(secrets.token_urlsafe(32))'; }
fresh >"$folder/owner"
fresh >"$folder/secrets/directory-broker"
cat >"$folder/server/slapd.conf" <<CONF
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile $folder/server/pid
database config
rootdn cn=admin,cn=config
rootpw $(cat "$folder/owner")
database mdb
suffix dc=example
rootdn cn=admin,dc=example
rootpw $(cat "$folder/owner")
directory $folder/server/data
access to attrs=userPassword by anonymous auth
access to * by * read
CONF
as=
if [ "$(id -u)" = 0 ]; then
    chown -R openldap "$folder/server"
    as="setpriv --reuid=openldap --regid=openldap --clear-groups"
fi
cd "$folder/server"
# slaptest writes the configuration and then complains that there is no database yet.
$as /usr/sbin/slaptest -Q -f slapd.conf -F conf >slaptest.log 2>&1 || [ -f conf/cn=config.ldif ] || { cat slaptest.log; exit 1; }
$as /usr/sbin/slapd -F conf -h "ldap://127.0.0.1:$port/"
until [ -s pid ]; do sleep 0.05; done

as_admin() {
    tool=$1
    admin=$2
    shift 2
    "$tool" -x -H "ldap://127.0.0.1:$port" -D "$admin" -y "$folder/owner" "$@" >>"$folder/setup.log" 2>&1 ||
        { cat "$folder/setup.log"; exit 1; }
}
cat >"$folder/people.ldif" <<'LDIF'
dn: dc=example
objectClass: dcObject
objectClass: organization
dc: example
o: Example

dn: ou=people,dc=example
objectClass: organizationalUnit
ou: people

dn: ou=groups,dc=example
objectClass: organizationalUnit
ou: groups

dn: uid=root,ou=people,dc=example
objectClass: inetOrgPerson
uid: root
cn: root
sn: root

dn: uid=arta,ou=people,dc=example
objectClass: inetOrgPerson
uid: arta
cn: Arta Krasniqi
sn: Krasniqi
mail: arta.krasniqi@mof.example

dn: uid=shadow,ou=people,dc=example
objectClass: inetOrgPerson
uid: shadow
cn: shadow
sn: shadow

dn: cn=ledger-admins,ou=groups,dc=example
objectClass: groupOfNames
cn: ledger-admins
member: uid=root,ou=people,dc=example
LDIF
as_admin ldapadd cn=admin,dc=example -f "$folder/people.ldif"
# The parts that the broker itself prints; each says who runs it.
"$python" -m jitaccess targets setup ldap >"$folder/setup.ldif"
awk -v to="$folder/part" '/^# ----/ { n++ } { print > (to n ".ldif") }' "$folder/setup.ldif"
for part in "$folder"/part*.ldif; do
    admin=cn=admin,cn=config
    ! grep -q "As the directory's administrator" "$part" || admin=cn=admin,dc=example
    as_admin ldapmodify "$admin" -f "$part"
done
as_admin ldappasswd cn=admin,dc=example -T "$folder/secrets/directory-broker" cn=jit-broker,dc=example
echo "OpenLDAP listens on 127.0.0.1:$port"
