// Uses both services through the types that openapi-typescript generates, with the fetch of Node.js.
// The arguments are the URLs of the user service and of the product service.

import createClient from "openapi-fetch";
import type { components, paths as ProductPaths } from "./products.js";
import type { paths as UserPaths } from "./users.js";

declare const process: { argv: [string, string, string, string] };
const [, , usersUrl, productsUrl] = process.argv;

function equal<T>(actual: T, expected: T): void {
  if (JSON.stringify(actual) !== JSON.stringify(expected)) {
    throw new Error(`${JSON.stringify(actual)} is not ${JSON.stringify(expected)}`);
  }
}

function present<T>(answer: { data?: T; error?: { code: string } }): T {
  if (answer.data === undefined) throw new Error(`refused: ${answer.error?.code}`);
  return answer.data;
}

const users = createClient<UserPaths>({ baseUrl: usersUrl });
const credentials = { username: `typed-${Date.now()}`, password: "correct horse battery staple" };
const user = present(await users.POST("/register", { body: credentials }));
const tokens = present(await users.POST("/login", { body: credentials }));

const products = createClient<ProductPaths>({
  baseUrl: productsUrl,
  headers: { Authorization: `Bearer ${tokens.access_token}` },
});
// Without a currency.
const draft: components["schemas"]["ProductCreate"] = { name: "Lamp", price: "12.50", quantity: 3 };
const created = present(await products.POST("/products", { body: draft }));
equal([created.owner_id, created.currency], [user.id, "USD"]);

const path = { product_id: created.id };
const change = { params: { path, header: { "If-Match": `"${created.version}"` } }, body: { quantity: 4 } };
equal(present(await products.PUT("/products/{product_id}", change)).quantity, 4);
const stale = await products.PUT("/products/{product_id}", change);
equal([stale.response.status, stale.error?.code], [412, "precondition-failed"]);

const sku = `LAMP-${Date.now()}`;
const report = present(
  await products.POST("/products/import", {
    body: `name,price,quantity,sku\r\nImported lamp,12.50,3,${sku}\r\n`,
    bodySerializer: (text) => text,
    headers: { "Content-Type": "text/csv" },
  }),
);
equal([report.created, report.errors.length], [1, 0]);

const listed = present(await products.GET("/products", { params: { query: { owner_id: [user.id], sort: "-id" } } }));
equal(listed.map((product) => product.sku), [sku, null]);

const changes: components["schemas"]["ProductChange"][] = present(
  await products.GET("/products/{product_id}/history", { params: { path } }),
);
equal(changes.map((each) => each.after?.["quantity"] ?? null), [4, 3]);
console.log("done");
