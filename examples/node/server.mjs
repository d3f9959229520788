// A page that only approved access opens: ISSUER, AUDIENCE and PORT in the environment; `node server.mjs`.
import { createServer } from 'node:http'
import { verifier } from './verify.mjs'

const { ISSUER = 'http://localhost:8000', AUDIENCE = 'http://127.0.0.1:8001', PORT = '8093' } = process.env
const verify = verifier(ISSUER, AUDIENCE)
const json = { 'Content-Type': 'application/json', 'Cache-Control': 'no-store' }

async function answer(request, response) {
  const [, token] = /^Bearer (\S+)$/i.exec(request.headers.authorization ?? '') ?? []
  try {
    const access = await verify(token ?? '')
    response.writeHead(200, json).end(JSON.stringify(access) + '\n')
  } catch (error) {
    const words = { ...json, 'WWW-Authenticate': 'Bearer error="invalid_token"' }
    response.writeHead(401, words).end(JSON.stringify({ error: 'refused', message: error.message }) + '\n')
  }
}

createServer(answer).listen(Number(PORT), '127.0.0.1', () => console.log(`serving on http://127.0.0.1:${PORT}`))
