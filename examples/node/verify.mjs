// Verifies jitaccess access tokens: signature, issuer, audience, kind, time, and whether the access has ended. Needs `jose`.
import { inflateSync } from 'node:zlib'
import { createRemoteJWKSet, jwtVerify } from 'jose'

export function verifier(issuer, audience) {
  const keys = createRemoteJWKSet(new URL(`${issuer}/.well-known/jwks.json`), { cacheMaxAge: 300_000 })
  const lists = new Map()
  const check = (text, rules) => jwtVerify(text, keys, { issuer, algorithms: ['ES256'], ...rules })
  const refuse = (why) => {
    throw new Error(why)
  }

  async function ended({ uri, idx }) {
    if (!uri.startsWith(`${issuer}/oidc/status/`) || !/^[a-z0-9]{1,64}$/.test(uri.slice(issuer.length + 13))) refuse('no status')
    let held = lists.get(uri)
    if (!held || Date.now() >= held.until) {
      const answer = await fetch(uri, { redirect: 'error', signal: AbortSignal.timeout(2_000) })
      if (!answer.ok) refuse('the broker gives no status list')
      const rules = { typ: 'statuslist+jwt', subject: uri, requiredClaims: ['exp'] }
      const { payload } = await check(await answer.text(), rules)
      const packed = Buffer.from(payload.status_list.lst, 'base64url')
      held = { bits: inflateSync(packed, { maxOutputLength: 131_072 }), until: Math.min(Date.now() + 3_000, payload.exp * 1_000) }
      lists.set(uri, held)
    }
    if (!Number.isInteger(idx) || !(idx >= 0 && idx < held.bits.length * 8)) refuse('no status')
    return (held.bits[idx >> 3] >> (idx & 7)) & 1
  }

  return async function verify(token) {
    if (!/^[\w-]+\.[\w-]+\.[\w-]{85}[AQgw]$/.test(token)) refuse('not a token') // one token, one text
    const requiredClaims = ['exp', 'iat', 'sub', 'jti', 'status', 'authorization_details']
    const { payload } = await check(token, { audience, typ: 'at+jwt', requiredClaims })
    const [access] = payload.authorization_details // target, entitlement, inputs, grant, ends_at
    if (payload.exp - payload.iat > 900) refuse('lives too long')
    if (payload.aud !== audience || access.type !== 'jit_access' || payload.exp > access.ends_at) refuse('not for this system')
    if (await ended(payload.status.status_list)) refuse('this access has ended')
    return { person: payload.sub, ...access }
  }
}
