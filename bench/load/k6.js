// The mix of requests of mix.json for k6; locustfile.py sends the same. See docs/load-tests.md.

import http from "k6/http";
import exec from "k6/execution";
import { Counter } from "k6/metrics";
import { sleep } from "k6";

const { LOAD_USER_SERVICE: USERS, LOAD_PRODUCT_SERVICE: PRODUCTS } = __ENV;
const MIX = JSON.parse(open("./mix.json"));
const WORDS = ["lamp", "la", "mp 1", "nothing like it"];
const LONGEST_WAIT = 60; // Seconds. A limit whose Retry-After is longer is an error.
const REFRESH_BEFORE = 60; // Seconds before an access token expires.
const NAMES = [
  "GET /products", "GET /products?cursor", "GET /products?q", "GET /products/{id}", "POST /products",
  "PATCH /products/{id}", "DELETE /products/{id}", "POST /login", "POST /refresh", "POST /logout",
];

const unexpected = new Counter("unexpected_responses");
const throttled = new Counter("throttled_responses");

export const options = {
  // A request is in the summary by its name only if it has a threshold.
  thresholds: {
    unexpected_responses: ["count == 0"],
    iterations: ["count > 0"],
    ...Object.fromEntries(NAMES.map((name) => [`http_req_duration{name:${name}}`, ["max >= 0"]])),
  },
  summaryTrendStats: ["count", "avg", "med", "p(95)", "p(99)", "max"],
};

let session = null; // Each virtual user has its own.

export default function () {
  try {
    if (session === null) {
      logIn();
    }
    TASKS[choose()]();
  } catch (problem) {
    unexpected.add(1);
    console.error(String(problem));
  }
  sleep(0.1 + 0.2 * Math.random());
}

const TASKS = {
  browse() {
    const first = send("GET", `${PRODUCTS}/products?limit=20`, "GET /products");
    const next = /<([^>]*)>; rel="next"/.exec(first.headers["Link"] || "");
    if (next) {
      send("GET", `${PRODUCTS}${next[1]}`, "GET /products?cursor");
    }
  },

  search() {
    const word = encodeURIComponent(pick(WORDS));
    send("GET", `${PRODUCTS}/products?q=${word}&sort=price&limit=20`, "GET /products?q");
  },

  read() {
    const product = pick(send("GET", `${PRODUCTS}/products?limit=20`, "GET /products").json());
    if (product) {
      // Another client may have deleted it meanwhile.
      send("GET", `${PRODUCTS}/products/${product.id}`, "GET /products/{id}", { expected: [200, 404] });
    }
  },

  // Creates a product, changes it twice with its tag, and deletes it.
  edit() {
    const draft = { name: "Lamp of a load test", price: "19.99", quantity: 3 };
    const created = sendAsSelf("POST", "/products", "POST /products", { body: draft, expected: [201] });
    const path = `/products/${created.json("id")}`;
    let tag = created.headers["Etag"];
    for (const price of ["18.99", "17.99"]) {
      const change = { body: { price }, headers: { "If-Match": tag } };
      tag = sendAsSelf("PATCH", path, "PATCH /products/{id}", change).headers["Etag"];
    }
    sendAsSelf("DELETE", path, "DELETE /products/{id}", { headers: { "If-Match": tag }, expected: [204] });
  },

  refresh() {
    take(send("POST", `${USERS}/refresh`, "POST /refresh", { body: { refresh_token: session.refreshToken } }));
  },

  log_in_again() {
    const headers = { Authorization: `Bearer ${session.accessToken}` };
    send("POST", `${USERS}/logout`, "POST /logout", { headers, expected: [204] });
    logIn();
  },
};

function choose() {
  let left = Math.random() * Object.values(MIX).reduce((sum, weight) => sum + weight);
  return Object.keys(MIX).find((name) => (left -= MIX[name]) < 0);
}

function pick(list) {
  return list[Math.floor(Math.random() * list.length)];
}

function logIn() {
  const number = exec.vu.idInInstance - 1;
  if (number >= Number(__ENV.LOAD_ACCOUNTS)) {
    exec.test.abort(`there are accounts for ${__ENV.LOAD_ACCOUNTS} users only`);
  }
  const body = { username: `${__ENV.LOAD_ACCOUNT_PREFIX}${number}`, password: __ENV.LOAD_PASSWORD };
  take(send("POST", `${USERS}/login`, "POST /login", { body }));
}

function take(answer) {
  const tokens = answer.json();
  const expires = Date.now() + 1000 * (tokens.expires_in - REFRESH_BEFORE);
  session = { accessToken: tokens.access_token, refreshToken: tokens.refresh_token, expires };
}

function sendAsSelf(method, path, name, { headers = {}, ...rest } = {}) {
  if (Date.now() > session.expires) {
    TASKS.refresh();
  }
  const all = { Authorization: `Bearer ${session.accessToken}`, ...headers };
  return send(method, `${PRODUCTS}${path}`, name, { headers: all, ...rest });
}

// Waits as long as a limit wants; any other unexpected status ends the iteration, and fails the test.
function send(method, url, name, { body = null, headers = {}, expected = [200] } = {}) {
  const content = body === null ? null : JSON.stringify(body);
  const fields = body === null ? headers : { "Content-Type": "application/json", ...headers };
  for (;;) {
    const answer = http.request(method, url, content, { headers: fields, tags: { name } });
    if (expected.includes(answer.status)) {
      return answer;
    }
    const wait = Number(answer.headers["Retry-After"] || Infinity);
    if (answer.status !== 429 || wait > LONGEST_WAIT) {
      throw new Error(`${name}: ${answer.status} ${answer.body || answer.error}`);
    }
    throttled.add(1);
    sleep(wait);
  }
}
