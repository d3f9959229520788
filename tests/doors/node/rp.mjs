// A relying party on an ordinary client library: sign in, ask who it is, refresh, introspect, sign out, take logout tokens.
// node rp.mjs openid-client|oauth4webapi, with ISSUER, CLIENT_ID, CLIENT_SECRET and PORT in the environment. For tests only.
import { createServer } from 'node:http'
import * as oauth from 'oauth4webapi'
import * as openid from 'openid-client'
import { createRemoteJWKSet, jwtVerify } from 'jose'

const { ISSUER, CLIENT_ID, CLIENT_SECRET, PORT } = process.env
const origin = `http://127.0.0.1:${PORT}`
const redirect_uri = `${origin}/callback`
const goodbye = `${origin}/goodbye`
const scope = 'openid profile'
const told = []
let kept = {}

async function onOpenidClient() {
  const config = await openid.discovery(new URL(ISSUER), CLIENT_ID, undefined, openid.ClientSecretBasic(CLIENT_SECRET), {
    execute: [openid.allowInsecureRequests],
  })
  return {
    jwks: config.serverMetadata().jwks_uri,
    async begin() {
      kept = { verifier: openid.randomPKCECodeVerifier(), state: openid.randomState(), nonce: openid.randomNonce() }
      const code_challenge = await openid.calculatePKCECodeChallenge(kept.verifier)
      const { state, nonce } = kept
      return openid.buildAuthorizationUrl(config, { redirect_uri, scope, code_challenge, code_challenge_method: 'S256', state, nonce }).href
    },
    async finish(url) {
      const checks = { pkceCodeVerifier: kept.verifier, expectedState: kept.state, expectedNonce: kept.nonce, idTokenExpected: true }
      const tokens = await openid.authorizationCodeGrant(config, url, checks)
      const claims = tokens.claims()
      const who = await openid.fetchUserInfo(config, tokens.access_token, claims.sub)
      const renewed = await openid.refreshTokenGrant(config, tokens.refresh_token)
      const asked = await openid.tokenIntrospection(config, renewed.access_token)
      return { claims, who, asked, id_token: tokens.id_token, rotated: renewed.refresh_token !== tokens.refresh_token, access_token: renewed.access_token }
    },
    async active(token) {
      return (await openid.tokenIntrospection(config, token)).active
    },
    goodbye: (id_token_hint) =>
      openid.buildEndSessionUrl(config, { id_token_hint, post_logout_redirect_uri: goodbye, state: 'away' }).href,
  }
}

async function onOauth4webapi() {
  const insecure = { [oauth.allowInsecureRequests]: true }
  const issuer = new URL(ISSUER)
  const server = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, insecure))
  const client = { client_id: CLIENT_ID }
  const proof = oauth.ClientSecretBasic(CLIENT_SECRET)
  const ask = async (token) =>
    oauth.processIntrospectionResponse(server, client, await oauth.introspectionRequest(server, client, proof, token, insecure))
  return {
    jwks: server.jwks_uri,
    async begin() {
      kept = { verifier: oauth.generateRandomCodeVerifier(), state: oauth.generateRandomState(), nonce: oauth.generateRandomNonce() }
      const url = new URL(server.authorization_endpoint)
      const code_challenge = await oauth.calculatePKCECodeChallenge(kept.verifier)
      const sent = { client_id: CLIENT_ID, redirect_uri, response_type: 'code', scope, code_challenge, code_challenge_method: 'S256', state: kept.state, nonce: kept.nonce }
      for (const [name, value] of Object.entries(sent)) url.searchParams.set(name, value)
      return url.href
    },
    async finish(url) {
      const answer = oauth.validateAuthResponse(server, client, url, kept.state)
      const got = await oauth.authorizationCodeGrantRequest(server, client, proof, answer, redirect_uri, kept.verifier, insecure)
      const tokens = await oauth.processAuthorizationCodeResponse(server, client, got, { expectedNonce: kept.nonce, requireIdToken: true })
      await oauth.validateApplicationLevelSignature(server, got, insecure)
      const claims = oauth.getValidatedIdTokenClaims(tokens)
      const who = await oauth.processUserInfoResponse(server, client, claims.sub, await oauth.userInfoRequest(server, client, tokens.access_token, insecure))
      const renewed = await oauth.processRefreshTokenResponse(server, client, await oauth.refreshTokenGrantRequest(server, client, proof, tokens.refresh_token, insecure))
      const asked = await ask(renewed.access_token)
      return { claims, who, asked, id_token: tokens.id_token, rotated: renewed.refresh_token !== tokens.refresh_token, access_token: renewed.access_token }
    },
    async active(token) {
      return (await ask(token)).active
    },
    goodbye(id_token_hint) {
      const url = new URL(server.end_session_endpoint)
      const sent = { id_token_hint, post_logout_redirect_uri: goodbye, state: 'away' }
      for (const [name, value] of Object.entries(sent)) url.searchParams.set(name, value)
      return url.href
    },
  }
}

const party = await { 'openid-client': onOpenidClient, oauth4webapi: onOauth4webapi }[process.argv[2]]()
const keys = createRemoteJWKSet(new URL(party.jwks))
let session = null

async function body(request) {
  let text = ''
  for await (const part of request) text += part
  return new URLSearchParams(text)
}

async function answer(request, response) {
  const url = new URL(request.url, origin)
  const json = (value) => response.writeHead(200, { 'Content-Type': 'application/json' }).end(JSON.stringify(value))
  const go = (location) => response.writeHead(302, { Location: location }).end()
  switch (url.pathname) {
    case '/login':
      return go(await party.begin())
    case '/callback':
      session = await party.finish(url)
      return json({ ...session, id_token: undefined, access_token: undefined })
    case '/active':
      return json({ active: await party.active(session.access_token) })
    case '/logout':
      return go(party.goodbye(session.id_token))
    case '/goodbye':
      return json({ gone: true, state: url.searchParams.get('state') })
    case '/backchannel': {
      const token = (await body(request)).get('logout_token')
      const { payload } = await jwtVerify(token, keys, { issuer: ISSUER, audience: CLIENT_ID, typ: 'logout+jwt', algorithms: ['ES256'] })
      told.push(payload)
      return response.writeHead(200).end()
    }
    case '/told':
      return json(told)
    default:
      return response.writeHead(404).end()
  }
}

createServer((request, response) =>
  answer(request, response).catch((error) => {
    console.error(error)
    response.writeHead(500).end(`${error.name}: ${error.message} ${error.cause ? JSON.stringify(error.cause) : ''}`)
  }),
).listen(Number(PORT), '127.0.0.1', () => console.log('ready'))
