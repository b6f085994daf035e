// Shows the dashboards of deploy/grafana from a real Prometheus, drawn by Grafana's own libraries.
//
//   node render.mjs --prometheus URL --dashboards DIRECTORY --listen 127.0.0.1:PORT
//       serves them for a browser: /?dashboard=links&theme=light&from=now-1h
//   node render.mjs --prometheus URL --dashboards DIRECTORY --picture FILE.png [--query STRING] [--width PX]
//       takes a picture of one, and prints what its panels hold as JSON; fails if one has an error, or is
//       empty and does not say why
//
// CHROMIUM names the browser; Debian's is the default.

import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import * as esbuild from 'esbuild';
import { chromium } from 'playwright-core';

const home = path.dirname(fileURLToPath(import.meta.url));

const { values: options } = parseArgs({
  options: {
    prometheus: { type: 'string' },
    dashboards: { type: 'string' },
    listen: { type: 'string', default: '127.0.0.1:0' },
    picture: { type: 'string' },
    query: { type: 'string', default: '' },
    width: { type: 'string', default: '1600' },
    height: { type: 'string' },
  },
});

// How long a page may load: the first one of a busy machine, of 300 activators.
const PATIENCE = 60_000;
const FIRST_HEIGHT = 900;

async function bundle() {
  const module = (name) => path.join(home, 'node_modules', name);
  const built = await esbuild.build({
    entryPoints: [path.join(home, 'src/page.jsx')],
    bundle: true,
    write: false,
    outdir: home,
    minify: true,
    format: 'iife',
    jsx: 'automatic',
    define: { 'process.env.NODE_ENV': '"production"', global: 'window' },
    loader: { '.svg': 'dataurl', '.png': 'dataurl', '.woff2': 'dataurl', '.ttf': 'empty' },
    alias: {
      '@grafana/plugin-compat/datasources': path.join(home, 'src/plugin_compat.js'),
      // Its ES module has no default export that esbuild and Grafana agree on.
      'react-custom-scrollbars-2': module('@grafana/ui/node_modules/react-custom-scrollbars-2/lib/index.js'),
    },
    logLevel: 'error',
    // Beside the package: what is linked in has its dependencies here.
    nodePaths: [path.join(home, 'node_modules')],
  });
  return new Map(built.outputFiles.map((file) => [path.extname(file.path), file.text]));
}

const PAGE = `<!doctype html><html lang="en"><meta charset="utf-8"><title>statlink</title>
<link rel="stylesheet" href="/bundle.css">
<script>window.__grafana_public_path__ = '/public/';</script>
<body><div id="page"></div><script src="/bundle.js"></script></body></html>`;

const TYPES = { '.svg': 'image/svg+xml', '.json': 'application/json', '.woff2': 'font/woff2', '.js': 'text/javascript' };

async function serve(page) {
  const server = createServer(async (request, response) => {
    const url = new URL(request.url, 'http://localhost');
    const send = (type, body, status = 200) => {
      response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store' });
      response.end(body);
    };
    try {
      if (url.pathname === '/bundle.js') {
        send('text/javascript', page.get('.js'));
      } else if (url.pathname === '/bundle.css') {
        send('text/css', page.get('.css'));
      } else if (url.pathname.startsWith('/api/v1/')) {
        const answer = await fetch(new URL(url.pathname + url.search, options.prometheus));
        send('application/json', await answer.text(), answer.status);
      } else if (url.pathname.startsWith('/dashboards/')) {
        send('application/json', await readFile(path.join(options.dashboards, path.basename(url.pathname))));
      } else if (url.pathname.startsWith('/public/fonts/inter/')) {
        send('font/woff2', await readFile(path.join(home, 'node_modules/@fontsource-variable/inter/files/inter-latin-wght-normal.woff2')));
      } else if (url.pathname.startsWith('/public/')) {
        const file = path.normalize(url.pathname).replace('/public/build/', '/public/');
        send(TYPES[path.extname(file)] ?? 'application/octet-stream', await readFile(path.join(home, 'node_modules/@grafana/ui/dist', file)));
      } else if (url.pathname === '/') {
        send('text/html', PAGE);
      } else {
        send('text/plain', 'not found', 404);
      }
    } catch (error) {
      send('text/plain', String(error), error.code === 'ENOENT' ? 404 : 502);
    }
  });
  const { hostname, port } = new URL(`http://${options.listen}`);
  await new Promise((resolve, reject) => server.once('error', reject).listen(Number(port), hostname, resolve));
  return server;
}

async function picture(address) {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--force-color-profile=srgb'],
  });
  try {
    const page = await browser.newPage({ viewport: { width: Number(options.width), height: FIRST_HEIGHT } });
    const faults = [];
    page.on('pageerror', (error) => faults.push(String(error)));
    await page.goto(`${address}/?${options.query}`);
    await page.waitForFunction(() => window.report?.().ready, undefined, { timeout: PATIENCE });
    // What is out of view is not drawn by every panel (tables), so the view takes the whole page.
    const whole = await page.evaluate(() => document.documentElement.scrollHeight);
    await page.setViewportSize({ width: Number(options.width), height: Number(options.height ?? whole) });
    await page.waitForFunction(() => window.report().ready, undefined, { timeout: PATIENCE });
    await page.waitForLoadState('networkidle');
    // Panels draw in the frames after their data.
    await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))));
    const report = await page.evaluate(() => window.report());
    await page.screenshot({ path: options.picture });
    return { ...report, faults: [...faults, ...report.problems, ...faultsOf(report)] };
  } finally {
    await browser.close();
  }
}

// What nobody may see on a dashboard: an error, or a panel that is empty and does not say why.
function faultsOf({ panels, variables }) {
  const ofVariables = variables.filter(({ error }) => error).map(({ name, error }) => `variable ${name}: ${error}`);
  const ofPanels = panels.flatMap(({ title, errors, points, empty_means: means }) => [
    ...errors.map((error) => `panel ${title}: ${error}`),
    ...(points === 0 && errors.length === 0 && !means ? [`panel ${title}: no data`] : []),
  ]);
  return [...ofVariables, ...ofPanels];
}

const server = await serve(await bundle());
const address = `http://127.0.0.1:${server.address().port}`;
if (options.picture) {
  const report = await picture(address);
  console.log(JSON.stringify(report));
  server.close();
  process.exitCode = report.faults.length === 0 ? 0 : 1;
} else {
  console.log(JSON.stringify({ event: 'listening', address }));
}
